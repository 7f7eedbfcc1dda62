//! Artifacts as multipart forms.
//!
//! Parts before `artifact` are short texts; `artifact` is streamed to the domain and ends the reading:
//! what follows it does not matter.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use ambidex_access::TenantId;
use ambidex_kit::ApiError;
use axum::body::{Body, BodyDataStream};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request};
use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;

use super::id;
use crate::Context;
use crate::domain::artifact::check_description;
use crate::domain::intake::{Announced, Intake};

/// Parts that may come before the artifact.
const PARTS_MAX: usize = 32;
/// Bytes of one such part; the longest that means anything is a description of 4096 characters.
const PART_BYTES_MAX: usize = 64 << 10;
/// Longest `size`, in digits.
const SIZE_DIGITS_MAX: usize = 20;

/// Reads the form and stores the artifact; returns its id.
///
/// # Errors
/// 400 for a malformed form or artifact, 409 for an artifact that exists, 413 beyond a limit.
pub async fn receive(
    context: &Context,
    tenant: &TenantId,
    request: Request,
) -> Result<String, ApiError> {
    let request = request.map(|body| {
        Body::from_stream(Paced {
            body: body.into_data_stream(),
            pause: false,
        })
    });
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("invalid multipart form: {error}")))?;
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
            "artifact" => return store(context, tenant, announced, field).await,
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
    announced: Announced,
    mut field: Field<'_>,
) -> Result<String, ApiError> {
    let mut intake = Intake::begin(context, tenant, announced).await?;
    while let Some(chunk) = field.chunk().await.map_err(malformed)? {
        intake.write(chunk).await?;
    }
    Ok(intake.finish().await?)
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
