//! Device authentication as the server's other parts call it (`/api/internal/v1/devauth`); never on the public listener.

use ambidex_access::{CallGate, TenantId};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody};
use ambidex_wire::management::devauth::{Count, Device, Limit, Status};
use axum::extract::{OriginalUri, Path, State};
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Router};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use super::management::{listing, number_of_devices, page_of_devices};
use super::object;
use crate::Devauth;
use crate::domain::limit::MAX_DEVICES;
use crate::domain::token::Verdict;

pub fn routes() -> Router<Devauth> {
    const BASE: &str = "/api/internal/v1/devauth";
    let path = |rest: &str| format!("{BASE}{rest}");
    Router::new()
        .route(&path("/alive"), get(check_liveliness))
        .route(&path("/health"), get(check_health))
        .route(&path("/tokens/verify"), post(verify_jwt).get(verify_jwt))
        .route(&path("/tokens"), delete(revoke_device_tokens))
        .route(
            &path("/tenant/{tenant_id}/limits/{name}"),
            get(get_device_limit)
                .put(update_device_limit)
                .delete(clear_device_limit),
        )
        .route(&path("/tenants"), post(create_tenant))
        .route(
            &path("/tenants/{tid}/devices/{did}/status"),
            get(device_status),
        )
        .route(
            &path("/tenants/{tid}/devices//status"),
            get(device_status_without_device),
        )
        .route(&path("/tenants/{tid}/devices"), get(list_devices))
        .route(&path("/tenants/{tid}/devices/count"), get(count_devices))
        .route(
            &path("/tenants/{tid}/devices/{did}"),
            patch(update_device).delete(remove_device),
        )
        .route(&path("/tenants//devices"), get(tenant_missing))
        .route(&path("/tenants//devices/count"), get(tenant_missing))
}

/// Answers as long as the process does.
async fn check_liveliness() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Check the health of the service.
async fn check_health(State(devauth): State<Devauth>) -> Result<StatusCode, ApiError> {
    match devauth.ping().await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(ApiError::unavailable(format!(
            "error reaching the database: {error}"
        ))),
    }
}

/// Check the validity of a token.
async fn verify_jwt(
    State(devauth): State<Devauth>,
    gate: Option<Extension<CallGate>>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let header = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| ApiError::unauthorized("no authorization header"))?;
    let token = header
        .to_str()
        .ok()
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let verdict = match token {
        Some(token) => devauth.verify_token(token, original_uri(&headers)).await?,
        None => Verdict::Invalid,
    };
    match verdict {
        Verdict::Valid(device) => {
            if let Some(Extension(gate)) = gate {
                let path = original_uri(&headers)
                    .map_or("", |uri| uri.split(['?', '#']).next().unwrap_or_default());
                gate.device(&device, &original_method(&headers), path)
                    .await?;
            }
            Ok(StatusCode::OK)
        }
        Verdict::Invalid => Err(ApiError::empty(StatusCode::UNAUTHORIZED)),
        Verdict::Expired => Err(ApiError::empty(StatusCode::FORBIDDEN)),
        Verdict::AddonMissing(name) => Err(ApiError::forbidden(format!(
            "operation requires addon: {name}"
        ))),
    }
}

/// The URI that a gateway asks about; gateways of two generations name it differently.
fn original_uri(headers: &HeaderMap) -> Option<&str> {
    ["x-original-uri", "x-forwarded-uri"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
}

/// The method that a gateway asks about. Without one no burst rule is meant.
fn original_method(headers: &HeaderMap) -> Method {
    ["x-original-method", "x-forwarded-method"]
        .iter()
        .find_map(|name| headers.get(*name)?.as_bytes().try_into().ok())
        .unwrap_or(Method::OPTIONS)
}

/// Delete device tokens.
async fn revoke_device_tokens(
    State(devauth): State<Devauth>,
    query: QueryPairs,
) -> Result<StatusCode, ApiError> {
    let tenant = query
        .first("tenant_id")
        .filter(|tenant| !tenant.is_empty())
        .ok_or_else(|| ApiError::bad_request("tenant_id must be provided"))?;
    let device = query.first("device_id").filter(|device| !device.is_empty());
    devauth
        .revoke_tokens(&TenantId::new(tenant), device)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_limit_name(name: &str) -> Result<(), ApiError> {
    if name == MAX_DEVICES {
        Ok(())
    } else {
        Err(ApiError::bad_request(format!("unsupported limit {name}")))
    }
}

/// Max device count limit.
async fn get_device_limit(
    State(devauth): State<Devauth>,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<Json<Limit>, ApiError> {
    check_limit_name(&name)?;
    Ok(Json(Limit {
        limit: devauth.device_limit(&TenantId::new(tenant)).await?,
    }))
}

/// Update max device count limit.
async fn update_device_limit(
    State(devauth): State<Devauth>,
    Path((tenant, name)): Path<(String, String)>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    check_limit_name(&name)?;
    let body: Limit = object(&body, "failed to decode limit request")?;
    if i64::try_from(body.limit).is_err() {
        return Err(ApiError::bad_request(
            "failed to decode limit request: limit is too large",
        ));
    }
    devauth
        .set_device_limit(&TenantId::new(tenant), body.limit)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove max device count limit.
async fn clear_device_limit(
    State(devauth): State<Devauth>,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    check_limit_name(&name)?;
    devauth.clear_device_limit(&TenantId::new(tenant)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct NewTenant {
    #[serde(default)]
    tenant_id: Option<String>,
}

/// Provision a new tenant.
async fn create_tenant(
    State(devauth): State<Devauth>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let body: NewTenant = object(&body, "failed to decode tenant")?;
    let tenant = body
        .tenant_id
        .filter(|tenant| !tenant.is_empty())
        .ok_or_else(|| ApiError::bad_request("tenant_id must be provided"))?;
    devauth.create_tenant(&TenantId::new(tenant)).await?;
    Ok(StatusCode::CREATED)
}

/// Get the status of a tenant's device.
async fn device_status(
    State(devauth): State<Devauth>,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<Json<Status>, ApiError> {
    let status = devauth.device_status(&TenantId::new(tenant), &id).await?;
    Ok(Json(Status {
        status: status.as_str().to_owned(),
    }))
}

async fn device_status_without_device() -> ApiError {
    ApiError::bad_request("device id (did) cannot be empty")
}

async fn tenant_missing() -> ApiError {
    ApiError::bad_request("tenant id (tid) cannot be empty")
}

/// Get a list of tenant's devices.
async fn list_devices(
    State(devauth): State<Devauth>,
    Path(tenant): Path<String>,
    OriginalUri(uri): OriginalUri,
    page: Page,
    query: QueryPairs,
) -> Result<(HeaderMap, Json<Vec<Device>>), ApiError> {
    page_of_devices(
        &devauth,
        &TenantId::new(tenant),
        &uri,
        page,
        listing(&query)?,
    )
    .await
}

/// Count number of devices, optionally filtered by status.
async fn count_devices(
    State(devauth): State<Devauth>,
    Path(tenant): Path<String>,
    query: QueryPairs,
) -> Result<Json<Count>, ApiError> {
    number_of_devices(&devauth, &TenantId::new(tenant), &query).await
}

#[derive(Deserialize)]
struct DeviceUpdate {
    #[serde(default)]
    check_in_time: Option<String>,
}

/// Tells when a device was last seen by another part of the server.
async fn update_device(
    State(devauth): State<Devauth>,
    Path((tenant, id)): Path<(String, String)>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    const PREFIX: &str = "failed to decode device update";
    let body: DeviceUpdate = object(&body, PREFIX)?;
    let tenant = TenantId::new(tenant);
    match body.check_in_time {
        None => {
            devauth.device_status(&tenant, &id).await?;
        }
        Some(text) => {
            let time: jiff::Timestamp = text.parse().map_err(|_| {
                ApiError::bad_request(format!("{PREFIX}: check_in_time: must be an RFC 3339 time"))
            })?;
            devauth
                .record_check_in(&tenant, &id, time.as_millisecond())
                .await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a device out of the fleet, on behalf of another part of the server.
async fn remove_device(
    State(devauth): State<Devauth>,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    devauth
        .decommission(&TenantId::new(tenant), &id, None)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
