//! Device authentication as operators call it (`/api/management/v2/devauth`).

use ambidex_access::{TenantId, UserAuth};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers};
use ambidex_wire::management::devauth::{Count, Device, Limit, Status};
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::object;
use crate::Devauth;
use crate::domain::admission::Admission;
use crate::domain::identity::{Identity, IdentityError};
use crate::domain::public_key::PublicKey;
use crate::domain::status::{DeviceStatus, SetStatus};
use crate::error::DevauthError;
use crate::store::device::DeviceSelection;

/// Ids of one search: both database engines take some ten thousand parameters a statement.
const IDS_MAX: usize = 10_000;

pub fn routes() -> Router<Devauth> {
    const BASE: &str = "/api/management/v2/devauth";
    let path = |rest: &str| format!("{BASE}{rest}");
    Router::new()
        .route(&path("/devices"), get(list_devices).post(preauthorize))
        .route(&path("/devices/search"), post(search_devices))
        .route(&path("/devices/count"), get(count_devices))
        .route(
            &path("/devices/{id}"),
            get(get_device).delete(decommission_device),
        )
        .route(
            &path("/devices/{id}/auth/{aid}"),
            delete(reject_authentication),
        )
        .route(
            &path("/devices/{id}/auth/{aid}/status"),
            put(set_authentication_status).get(get_authentication_status),
        )
        .route(&path("/tokens/{id}"), delete(revoke_api_token))
        .route(&path("/limits/max_devices"), get(get_device_limit))
}

/// List devices sorted by age and optionally filter on device status.
async fn list_devices(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    OriginalUri(uri): OriginalUri,
    page: Page,
    query: QueryPairs,
) -> Result<(HeaderMap, Json<Vec<Device>>), ApiError> {
    page_of_devices(&devauth, &user.tenant, &uri, page, listing(&query)?).await
}

/// The selection that a listing's query asks for.
pub(super) fn listing(query: &QueryPairs) -> Result<Option<DeviceSelection>, ApiError> {
    let statuses: Vec<String> = query
        .all("status")
        .filter(|status| !status.is_empty())
        .map(str::to_owned)
        .collect();
    if statuses
        .iter()
        .any(|status| DeviceStatus::parse(status).is_none())
    {
        return Err(ApiError::bad_request(
            "filter status must be one of: accepted, pending, rejected, preauthorized or noauth",
        ));
    }
    let ids = query
        .all("id")
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    selection(Some(statuses).filter(|statuses| !statuses.is_empty()), ids)
}

/// `None` when nothing can match.
fn selection(
    statuses: Option<Vec<String>>,
    mut ids: Vec<String>,
) -> Result<Option<DeviceSelection>, ApiError> {
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > IDS_MAX {
        return Err(ApiError::bad_request(format!(
            "more than {IDS_MAX} ids in one search"
        )));
    }
    let statuses = match statuses {
        None => Vec::new(),
        Some(mut statuses) => {
            statuses.retain(|status| DeviceStatus::parse(status).is_some());
            statuses.sort_unstable();
            statuses.dedup();
            if statuses.is_empty() {
                return Ok(None);
            }
            statuses
        }
    };
    Ok(Some(DeviceSelection { statuses, ids }))
}

pub(super) async fn page_of_devices(
    devauth: &Devauth,
    tenant: &TenantId,
    uri: &Uri,
    page: Page,
    selection: Option<DeviceSelection>,
) -> Result<(HeaderMap, Json<Vec<Device>>), ApiError> {
    let mut devices = match selection {
        Some(selection) => {
            devauth
                .list_devices(tenant, &selection, page.per_page + 1, page.offset())
                .await?
        }
        None => Vec::new(),
    };
    let per_page = usize::try_from(page.per_page).unwrap_or(usize::MAX);
    let more = devices.len() > per_page;
    devices.truncate(per_page);
    Ok((link_headers(uri, &page, more, None), Json(devices)))
}

#[derive(Deserialize)]
struct PreAuthBody {
    #[serde(default)]
    identity_data: Option<Map<String, Value>>,
    #[serde(default)]
    pubkey: Option<String>,
    #[serde(default)]
    force: bool,
}

/// Submit a preauthorized device.
async fn preauthorize(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    body: RawBody,
) -> Result<Response, ApiError> {
    const PREFIX: &str = "failed to decode preauth request";
    let body: PreAuthBody = object(&body, PREFIX)?;
    let invalid = |reason: String| ApiError::bad_request(format!("{PREFIX}: {reason}"));
    let object = body
        .identity_data
        .ok_or_else(|| invalid(IdentityError::Empty.to_string()))?;
    let identity = Identity::from_object(&object).map_err(|error| invalid(error.to_string()))?;
    let pubkey = body
        .pubkey
        .filter(|key| !key.is_empty())
        .ok_or_else(|| invalid("pubkey: non zero value required;".to_owned()))?;
    let key = PublicKey::parse(&pubkey).map_err(|error| invalid(error.to_string()))?;
    let request = Admission {
        identity,
        key,
        tenant_token: None,
    };
    match devauth
        .preauthorize(&user.tenant, &request, body.force, Some(&user))
        .await
    {
        Ok(id) => Ok((StatusCode::CREATED, [(LOCATION, format!("devices/{id}"))]).into_response()),
        Err(DevauthError::DeviceExists(device)) => {
            Ok((StatusCode::CONFLICT, Json(device)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// Query for devices.
async fn search_devices(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    OriginalUri(uri): OriginalUri,
    page: Page,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(HeaderMap, Json<Vec<Device>>), ApiError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let (statuses, ids) = match media_type.as_str() {
        "application/x-www-form-urlencoded" => {
            let form: Vec<(String, String)> = form_pairs(&body)?;
            let all = |wanted: &str| -> Vec<String> {
                form.iter()
                    .filter(|(name, _)| name == wanted)
                    .map(|(_, value)| value.clone())
                    .collect()
            };
            (
                Some(all("status")).filter(|statuses| !statuses.is_empty()),
                all("id"),
            )
        }
        "" | "application/json" => {
            let body: Map<String, Value> = body.json("failed to decode search request")?;
            (
                texts(&body, "status")?,
                texts(&body, "id")?.unwrap_or_default(),
            )
        }
        _ => {
            let text = format!("Content-Type '{content_type}' not supported");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
    };
    page_of_devices(
        &devauth,
        &user.tenant,
        &uri,
        page,
        selection(statuses, ids)?,
    )
    .await
}

fn form_pairs(body: &RawBody) -> Result<Vec<(String, String)>, ApiError> {
    let invalid = || ApiError::bad_request("failed to decode search request: invalid form");
    let text = std::str::from_utf8(&body.0).map_err(|_| invalid())?;
    let uri: Uri = format!("/?{text}").parse().map_err(|_| invalid())?;
    axum::extract::Query::try_from_uri(&uri)
        .map(|pairs| pairs.0)
        .map_err(|_| invalid())
}

/// A member that is a string or a list of strings; `None` when it is absent.
fn texts(body: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, ApiError> {
    let wrong = || {
        ApiError::bad_request(format!(
            "invalid JSON type for '{name}': must be string or []string"
        ))
    };
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(vec![text.clone()])),
        Some(Value::Array(items)) if items.is_empty() => Ok(None),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(wrong()),
    }
}

/// Get a particular device.
async fn get_device(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    Path(id): Path<String>,
) -> Result<Json<Device>, ApiError> {
    Ok(Json(devauth.get_device(&user.tenant, &id).await?))
}

/// Remove device and associated authentication sets.
async fn decommission_device(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    devauth.decommission(&user.tenant, &id, Some(&user)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove the device authentication set.
async fn reject_authentication(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    Path((id, set_id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    devauth
        .remove_auth_set(&user.tenant, &id, &set_id, Some(&user))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Update the device authentication set status.
async fn set_authentication_status(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    Path((id, set_id)): Path<(String, String)>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let body: Status = object(&body, "failed to decode status data")?;
    let status = SetStatus::parse(&body.status)
        .filter(|status| *status != SetStatus::Preauthorized)
        .ok_or_else(|| ApiError::bad_request("incorrect device status"))?;
    devauth
        .set_auth_status(&user.tenant, &id, &set_id, status, Some(&user))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get the device authentication set status.
async fn get_authentication_status(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    Path((id, set_id)): Path<(String, String)>,
) -> Result<Json<Status>, ApiError> {
    let status = devauth.auth_status(&user.tenant, &id, &set_id).await?;
    Ok(Json(Status {
        status: status.as_str().to_owned(),
    }))
}

/// Count number of devices, optionally filtered by status.
async fn count_devices(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    query: QueryPairs,
) -> Result<Json<Count>, ApiError> {
    number_of_devices(&devauth, &user.tenant, &query).await
}

pub(super) async fn number_of_devices(
    devauth: &Devauth,
    tenant: &TenantId,
    query: &QueryPairs,
) -> Result<Json<Count>, ApiError> {
    let status = match query.first("status").filter(|status| !status.is_empty()) {
        None => None,
        Some(text) => Some(DeviceStatus::parse(text).ok_or_else(|| {
            ApiError::bad_request(
                "status must be one of: pending, accepted, rejected, preauthorized, noauth",
            )
        })?),
    };
    Ok(Json(Count {
        count: devauth.count_devices(tenant, status).await?,
    }))
}

/// Revoke JWT with given id.
async fn revoke_api_token(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    devauth.revoke_token(&user.tenant, &id, Some(&user)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Obtain limit of accepted devices.
async fn get_device_limit(
    UserAuth(user): UserAuth,
    State(devauth): State<Devauth>,
) -> Result<Json<Limit>, ApiError> {
    Ok(Json(Limit {
        limit: devauth.device_limit(&user.tenant).await?,
    }))
}
