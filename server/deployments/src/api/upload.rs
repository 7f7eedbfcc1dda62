//! Artifacts as multipart forms.
//!
//! Parts before `artifact` are short texts; `artifact` is streamed to the domain and ends the reading:
//! what follows it does not matter.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use ambidex_access::{TenantId, UserIdentity};
use ambidex_kit::ApiError;
use axum::body::{Body, BodyDataStream};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request};
use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;

use super::id;
use crate::Context;
use crate::domain::artifact::{Artifact, check_description};
use crate::domain::generate::{self, RawFile};
use crate::domain::intake::{Announced, Intake};
use crate::domain::{audit, grants};
use crate::error::Error;

/// Parts that may come before the artifact.
const PARTS_MAX: usize = 32;
/// Bytes of one such part; the longest that means anything is a description of 4096 characters.
const PART_BYTES_MAX: usize = 64 << 10;
/// Longest `size`, in digits.
const SIZE_DIGITS_MAX: usize = 20;

async fn open(request: Request) -> Result<Multipart, ApiError> {
    let request = request.map(|body| {
        Body::from_stream(Paced {
            body: body.into_data_stream(),
            pause: false,
        })
    });
    Multipart::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("invalid multipart form: {error}")))
}

/// Reads the form and orders the artifact that is to be made of its file; returns the id it will have.
///
/// # Errors
/// 400 for a malformed form, 403 for a release outside the user's roles, 413 beyond a limit, 422 for an
/// artifact that exists.
pub async fn receive_raw(
    context: &Context,
    user: &UserIdentity,
    request: Request,
) -> Result<String, ApiError> {
    let mut form = open(request).await?;
    let mut told = generate::Form::default();
    for _ in 0..=PARTS_MAX {
        let Some(mut field) = form.next_field().await.map_err(malformed)? else {
            // Whatever else is wrong is the more helpful answer.
            told.check()?;
            return Err(ApiError::bad_request(
                "api: invalid form parameters: missing 'file' section",
            ));
        };
        match field
            .name()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "file" => {
                let mut raw = RawFile::begin(context, user, told).await?;
                while let Some(chunk) = field.chunk().await.map_err(malformed)? {
                    raw.write(chunk).await?;
                }
                return Ok(raw.finish().await?);
            }
            "name" => told.name = text(field, "name").await?,
            "description" => told.description = text(field, "description").await?,
            "device_types_compatible" => {
                let list = text(field, "device_types_compatible").await?;
                told.device_types.push(list);
            }
            "type" => told.kind = text(field, "type").await?,
            "args" => told.args = text(field, "args").await?,
            "size" => told.size_bytes = size(&text(field, "size").await?)?,
            _ => {
                text_bytes(field, "an unknown part").await?;
            }
        }
    }
    Err(ApiError::bad_request(format!(
        "more than {PARTS_MAX} parts before the file"
    )))
}

/// Reads the form and stores the artifact; returns its id. `user` is `None` for another service.
///
/// # Errors
/// 400 for a malformed form or artifact, 403 for a release outside the user's roles, 409 for an artifact
/// that exists, 413 beyond a limit.
pub async fn receive(
    context: &Context,
    tenant: &TenantId,
    user: Option<&UserIdentity>,
    request: Request,
) -> Result<String, ApiError> {
    let mut form = open(request).await?;
    let mut announced = Announced::default();
    for _ in 0..=PARTS_MAX {
        let Some(field) = form.next_field().await.map_err(malformed)? else {
            return Err(ApiError::bad_request(
                "request does not contain the artifact file",
            ));
        };
        match field
            .name()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "artifact" => return store(context, tenant, user, announced, field).await,
            "description" => {
                announced.description = text(field, "description").await?;
                check_description(&announced.description)?;
            }
            "size" => announced.size_bytes = size(&text(field, "size").await?)?,
            "artifact_id" => {
                let text = text(field, "artifact_id").await?;
                let parsed = id::parse(&text)
                    .map_err(|_| ApiError::bad_request("artifact_id is not a valid UUID"))?;
                announced.artifact_id = Some(parsed);
            }
            _ => {
                text_bytes(field, "an unknown part").await?;
            }
        }
    }
    Err(ApiError::bad_request(format!(
        "more than {PARTS_MAX} parts before the artifact"
    )))
}

/// A body that is never ready twice in a row. The form parser takes everything that is ready into
/// memory before it hands out the first byte; so it gets one chunk at a time, however fast the client.
struct Paced {
    body: BodyDataStream,
    pause: bool,
}

impl Stream for Paced {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.body).poll_next(task);
        self.pause = matches!(next, Poll::Ready(Some(_)));
        next
    }
}

async fn store(
    context: &Context,
    tenant: &TenantId,
    user: Option<&UserIdentity>,
    announced: Announced,
    mut field: Field<'_>,
) -> Result<String, ApiError> {
    // The tags are read before the name is known, since what becomes visible is decided in one breath.
    let seen = match user {
        Some(user) if user.grants.release_tags.is_some() => {
            Some(grants::releases(context, tenant, &user.grants).await?)
        }
        _ => None,
    };

    let mut intake = Intake::begin(context, tenant, announced).await?;
    while let Some(chunk) = field.chunk().await.map_err(malformed)? {
        intake.write(chunk).await?;
    }
    let and = |artifact: &Artifact| {
        if seen
            .as_ref()
            .is_some_and(|seen| !seen.contains(&artifact.name))
        {
            return Err(Error::Forbidden("Access denied (RBAC).".to_owned()));
        }
        Ok(user
            .map(|user| audit::artifact(context, user, audit::UPLOAD, &artifact.id, &artifact.name))
            .into_iter()
            .collect())
    };
    Ok(intake.finish(&and).await?)
}

/// 0 and an empty text mean that nothing was announced.
fn size(text: &str) -> Result<Option<u64>, ApiError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    Some(text)
        .filter(|text| text.len() <= SIZE_DIGITS_MAX)
        .and_then(|text| text.parse::<u64>().ok())
        .map(|bytes| (bytes > 0).then_some(bytes))
        .ok_or_else(|| ApiError::bad_request("size is not a number of bytes"))
}

async fn text(field: Field<'_>, what: &str) -> Result<String, ApiError> {
    String::from_utf8(text_bytes(field, what).await?)
        .map_err(|_| ApiError::bad_request(format!("{what} is not UTF-8 text")))
}

async fn text_bytes(mut field: Field<'_>, what: &str) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(malformed)? {
        if bytes.len() + chunk.len() > PART_BYTES_MAX {
            return Err(ApiError::bad_request(format!(
                "{what} is larger than {PART_BYTES_MAX} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn malformed(error: MultipartError) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large("request body too large"),
        _ => ApiError::bad_request(format!("invalid multipart form: {}", error.body_text())),
    }
}
