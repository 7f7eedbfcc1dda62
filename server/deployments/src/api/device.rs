//! What devices call.

use std::collections::BTreeMap;

use ambidex_access::{DeviceAuth, DeviceIdentity};
use ambidex_kit::{ApiError, Json, QueryPairs, RawBody, rfc3339};
use ambidex_wire::deployments::{ArtifactSource, Instructions, Link, LogReport, StatusReport};
use ambidex_wire::paths;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::StatusCode;
use serde_json::{Map, Value};

use super::origin::Origin;
use crate::Context;
use crate::domain::poll::{self, Offer, Poll};
use crate::domain::report;
use crate::error::Error;

pub fn routes() -> Router<Context> {
    Router::new()
        .route(paths::NEXT_V1, get(check_update).post(check_update_depends))
        .route(paths::NEXT_V2, post(check_update_v2))
        .route(
            &paths::deployment_status("{id}"),
            put(update_deployment_status),
        )
        .route(&paths::deployment_log("{id}"), put(report_deployment_log))
}

/// Get next update
async fn check_update(
    DeviceAuth(device): DeviceAuth,
    State(context): State<Context>,
    query: QueryPairs,
    origin: Origin,
) -> Result<Response, ApiError> {
    let text = |key: &str| query.first(key).map(str::to_owned);
    let poll = Poll::new(text("device_type"), text("artifact_name"), None)?;
    answer(&context, &device, &poll, &origin).await
}

/// Get a next update satisfying dependencies
async fn check_update_depends(
    DeviceAuth(device): DeviceAuth,
    State(context): State<Context>,
    origin: Origin,
    body: RawBody,
) -> Result<Response, ApiError> {
    let mut body: Map<String, Value> = body.json("invalid schema")?;
    // Some clients put what they provide into an object of its own.
    let nested = body.remove("artifact_provides");
    let mut provides = strings(body)?;
    if let Some(Value::Object(nested)) = nested {
        provides.extend(strings(nested)?);
    }
    answer(&context, &device, &poll_of(provides)?, &origin).await
}

/// Get a next update satisfying dependencies, version 2
async fn check_update_v2(
    DeviceAuth(device): DeviceAuth,
    State(context): State<Context>,
    origin: Origin,
    body: RawBody,
) -> Result<Response, ApiError> {
    let mut body: Map<String, Value> = body.json("invalid schema")?;
    let provides = match body.remove("device_provides") {
        Some(Value::Object(provides)) => strings(provides)?,
        _ => return Err(ApiError::bad_request("device_provides: cannot be blank.")),
    };
    answer(&context, &device, &poll_of(provides)?, &origin).await
}

/// Only strings are provides; other values are ignored, except where a string is needed.
fn strings(map: Map<String, Value>) -> Result<BTreeMap<String, String>, ApiError> {
    map.into_iter()
        .filter_map(|(key, value)| match value {
            Value::String(text) => Some(Ok((key, text))),
            _ if key == "device_type" || key == "artifact_name" => Some(Err(
                ApiError::bad_request(format!("invalid schema: {key} is no string")),
            )),
            _ => None,
        })
        .collect()
}

fn poll_of(provides: BTreeMap<String, String>) -> Result<Poll, Error> {
    let text = |key: &str| provides.get(key).cloned();
    let (device_type, artifact_name) = (text("device_type"), text("artifact_name"));
    Poll::new(device_type, artifact_name, Some(provides))
}

async fn answer(
    context: &Context,
    device: &DeviceIdentity,
    poll: &Poll,
    origin: &Origin,
) -> Result<Response, ApiError> {
    match poll::next(context, &device.tenant, &device.device_id, poll).await? {
        Some(offer) => {
            let instructions = instructions(context, offer, origin).await?;
            Ok(Json(instructions).into_response())
        }
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn instructions(
    context: &Context,
    offer: Offer,
    Origin(origin): &Origin,
) -> Result<Instructions, Error> {
    let now_ms = context.clock.now_ms();
    let lifetime_ms = context.settings.update_link_ms;
    let uri = context
        .blobs
        .download_link(
            origin,
            &offer.artifact.blob_key,
            &super::download::file_name(&offer.artifact_name),
            now_ms,
            lifetime_ms,
        )
        .await?;
    Ok(Instructions {
        id: offer.deployment_id,
        artifact: ArtifactSource {
            id: Some(offer.artifact.id),
            artifact_name: offer.artifact_name,
            source: Link {
                uri,
                expire: Some(rfc3339(now_ms.saturating_add(lifetime_ms))),
                method: Some("GET".to_owned()),
            },
            device_types_compatible: offer.artifact.device_types,
        },
    })
}

/// Update the device deployment status
async fn update_deployment_status(
    DeviceAuth(device): DeviceAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(body): Json<StatusReport>,
) -> Result<StatusCode, ApiError> {
    if !body.status.is_reportable() {
        return Err(ApiError::bad_request(format!(
            "status: a device cannot report '{}'",
            body.status
        )));
    }
    report::status(&context, &device.tenant, &device.device_id, &id, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Upload the device deployment log
async fn report_deployment_log(
    DeviceAuth(device): DeviceAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(body): Json<LogReport>,
) -> Result<StatusCode, ApiError> {
    report::log(
        &context,
        &device.tenant,
        &device.device_id,
        &id,
        &body.messages,
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
