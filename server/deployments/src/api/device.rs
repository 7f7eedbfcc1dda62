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
use crate::domain::device::State as Standing;
use crate::domain::poll::{self, Offer, Poll};
use crate::domain::report;
use crate::error::Error;
use crate::store;

pub fn routes() -> Router<Context> {
    Router::new()
        .route(paths::NEXT_V1, get(check_update).post(check_update_depends))
        .route(paths::NEXT_V2, post(check_update_v2))
        .route(
            &paths::update_control_map("{id}"),
            get(get_update_control_map),
        )
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
    answer(&context, &device, &poll, &origin, false).await
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
    answer(&context, &device, &poll_of(provides)?, &origin, false).await
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
    let pauses = match body.remove("update_control_map") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(pauses)) => pauses,
        Some(_) => {
            return Err(ApiError::bad_request(
                "invalid schema: update_control_map is no boolean",
            ));
        }
    };
    answer(&context, &device, &poll_of(provides)?, &origin, pauses).await
}

/// Get where the device is to pause, as it is now
///
/// The map is there twice: on its own and, for those who look for it, under its name.
async fn get_update_control_map(
    DeviceAuth(device): DeviceAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = store::device::find(&context.db, &device.tenant, &id, &device.device_id)
        .await?
        .filter(|found| matches!(found.standing.state, Standing::Active | Standing::Done))
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    if found.standing.aborted {
        return Err(ApiError::not_found("Resource not found"));
    }
    let deployment = store::deployment::find(&context.db, &device.tenant, &id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    Ok(match control_map(deployment.control_map)? {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(map) => {
            let mut body = map.as_object().cloned().unwrap_or_default();
            body.insert("update_control_map".to_owned(), map);
            Json(body).into_response()
        }
    })
}

fn control_map(text: Option<String>) -> Result<Option<Value>, Error> {
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| Error::Internal(format!("a stored control map is no JSON: {error}")))
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
    pauses: bool,
) -> Result<Response, ApiError> {
    let next = poll::next(context, &device.tenant, &device.device_id, poll).await?;
    let Some(offer) = next else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let map = control_map(offer.control_map.clone().filter(|_| pauses))?;
    let mut instructions = instructions(context, device, poll, offer, origin).await?;
    instructions.update_control_map = map;
    Ok(Json(instructions).into_response())
}

async fn instructions(
    context: &Context,
    device: &DeviceIdentity,
    poll: &Poll,
    offer: Offer,
    Origin(origin): &Origin,
) -> Result<Instructions, Error> {
    let now_ms = context.clock.now_ms();
    let lifetime_ms = context.settings.update_link_ms;
    let expires_ms = now_ms.saturating_add(lifetime_ms);
    let (id, types, uri) = match offer.artifact {
        Some(artifact) => {
            let uri = context
                .blobs
                .download_link(
                    origin,
                    &artifact.blob_key,
                    &super::download::file_name(&offer.artifact_name),
                    now_ms,
                    lifetime_ms,
                )
                .await?;
            (Some(artifact.id), artifact.device_types, uri)
        }
        None => {
            let link = super::configuration::link(
                context,
                &device.tenant,
                &offer.deployment_id,
                &poll.device_type,
                &device.device_id,
                expires_ms,
            )
            .await?;
            let types = vec![poll.device_type.clone()];
            (None, types, format!("{origin}{link}"))
        }
    };
    Ok(Instructions {
        id: offer.deployment_id,
        artifact: ArtifactSource {
            id,
            artifact_name: offer.artifact_name,
            source: Link {
                uri,
                expire: Some(rfc3339(expires_ms)),
                method: Some("GET".to_owned()),
            },
            device_types_compatible: types,
        },
        update_control_map: None,
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
