//! The inventory as the server's other parts call it (`/api/internal/v1/inventory`); never on the public listener.
//!
//! Callers of a server of one tenant leave the tenant's segment empty (`/tenants//devices`), so each route stands
//! twice. Paths that newer callers use are served beside those of the specification.

use ambidex_access::TenantId;
use ambidex_kit::{ApiError, Json, QueryPairs, RawBody};
use ambidex_wire::management::inventory::{DeviceInventory, DeviceRevision, Statistics};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{MethodRouter, get, patch, post};
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filters::run_search;
use super::{attributes, object};
use crate::Inventory;
use crate::domain::attribute::{AttributeError, NewAttribute, named_scope, read_attributes};
use crate::domain::reach::Reach;
use crate::domain::scope::Scope;
use crate::error::InventoryError;

/// The path parameters of any of these routes.
#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    tenant_id: String,
    #[serde(default)]
    device_id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    scope: String,
}

impl Target {
    fn tenant(&self) -> TenantId {
        TenantId::new(&self.tenant_id)
    }
}

pub fn routes() -> Router<Inventory> {
    const V1: &str = "/api/internal/v1/inventory";
    const V2: &str = "/api/internal/v2/inventory";
    let mut routes = Router::new()
        .route(&format!("{V1}/alive"), get(check_liveliness))
        .route(&format!("{V1}/health"), get(check_health))
        .route(&format!("{V1}/tenants"), post(create_tenant))
        .route(&format!("{V1}/devices"), post(initialize_device));
    let of_tenant: [(&str, &str, MethodRouter<Inventory>); 10] = [
        (V1, "/devices", post(initialize_device)),
        (
            V1,
            "/devices/{status}",
            post(update_status_of_devices).delete(remove_device),
        ),
        (
            V1,
            "/devices/status/{status}",
            post(update_status_of_devices),
        ),
        (V1, "/devices/{status}/groups", get(get_groups_of_device)),
        (
            V1,
            "/device/{device_id}/attribute/scope/{scope}",
            patch(update_inventory_for_a_device),
        ),
        (
            V1,
            "/device//attribute/scope/{scope}",
            patch(device_missing),
        ),
        (
            V1,
            "/device/{device_id}/attributes",
            patch(update_attributes_of_device),
        ),
        (V2, "/filters/search", post(search_of_tenant)),
        (V2, "/statistics", get(statistics_of_tenant)),
        (V1, "/devices/{status}/reindex", post(reindex_device)),
    ];
    for (base, rest, handler) in of_tenant {
        routes = routes
            .route(
                &format!("{base}/tenants/{{tenant_id}}{rest}"),
                handler.clone(),
            )
            .route(&format!("{base}/tenants/{rest}"), handler);
    }
    routes
}

/// Answers as long as the process does.
async fn check_liveliness() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Check the health of the service.
async fn check_health(State(inventory): State<Inventory>) -> Result<StatusCode, ApiError> {
    match inventory.ping().await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(ApiError::unavailable(format!(
            "error reaching the database: {error}"
        ))),
    }
}

#[derive(Deserialize)]
struct NewTenant {
    #[serde(default)]
    tenant_id: Option<String>,
}

/// Create a tenant with provided configuration.
async fn create_tenant(
    State(inventory): State<Inventory>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let body: NewTenant = object(&body, "failed to decode request body")?;
    let tenant = body
        .tenant_id
        .filter(|tenant| !tenant.is_empty())
        .ok_or_else(|| ApiError::bad_request("tenant_id: cannot be blank."))?;
    inventory.create_tenant(&TenantId::new(tenant)).await?;
    Ok(StatusCode::CREATED)
}

#[derive(Deserialize)]
struct NewDevice {
    #[serde(default)]
    id: String,
    #[serde(default)]
    attributes: Option<Value>,
}

/// Create a device resource with the supplied set of attributes.
async fn initialize_device(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<(StatusCode, [(HeaderName, String); 1]), ApiError> {
    let body: NewDevice = object(&body, "failed to decode request body")?;
    if body.id.is_empty() {
        return Err(ApiError::bad_request("id: cannot be blank."));
    }
    // The id becomes a segment of a path and part of a header.
    if body.id.chars().any(char::is_control) {
        return Err(ApiError::bad_request(
            "id: must not contain control characters.",
        ));
    }
    let attributes = match &body.attributes {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => read_attributes(list).map_err(InventoryError::from)?,
    };
    inventory
        .initialize(&target.tenant(), &body.id, with_scopes(attributes)?)
        .await?;
    Ok((
        StatusCode::CREATED,
        [(LOCATION, format!("devices/{}", body.id))],
    ))
}

fn with_scopes(attributes: Vec<NewAttribute>) -> Result<Vec<(Scope, NewAttribute)>, ApiError> {
    let scoped: Result<Vec<_>, AttributeError> = attributes
        .into_iter()
        .map(|attribute| Ok((named_scope(&attribute)?, attribute)))
        .collect();
    scoped.map_err(|error| InventoryError::from(error).into())
}

/// Update the status of a list of devices.
async fn update_status_of_devices(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    if !Inventory::is_status(&target.status) {
        return Err(ApiError::not_found(format!(
            "unrecognized status: {}",
            target.status
        )));
    }
    let devices: Vec<DeviceRevision> = body.json("cant parse devices")?;
    if devices.iter().any(|device| device.id.is_empty()) {
        return Err(ApiError::bad_request(
            "cant parse devices: id: cannot be blank.",
        ));
    }
    inventory
        .update_statuses(&target.tenant(), &devices, &target.status)
        .await?;
    Ok(StatusCode::OK)
}

/// Update multiple inventory attributes in a single scope for a device.
async fn update_inventory_for_a_device(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let scope =
        Scope::parse(&target.scope).ok_or(InventoryError::Attribute(AttributeError::Scope))?;
    inventory
        .merge_scope(
            &target.tenant(),
            &target.device_id,
            scope,
            attributes(&body)?,
        )
        .await?;
    Ok(StatusCode::OK)
}

async fn device_missing() -> ApiError {
    ApiError::bad_request("device id cannot be empty")
}

/// Merges attributes of several scopes.
async fn update_attributes_of_device(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let attributes = with_scopes(attributes(&body)?)?;
    inventory
        .merge_scopes(&target.tenant(), &target.device_id, attributes)
        .await?;
    Ok(StatusCode::OK)
}

/// Removes a device. Its id stands where another operation of this path has a status.
async fn remove_device(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
) -> Result<StatusCode, ApiError> {
    inventory
        .remove_device(&target.tenant(), &target.status)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<String>,
}

/// The groups of a device: one or none. Its id stands where another operation of this path has a status.
async fn get_groups_of_device(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
) -> Result<Json<Groups>, ApiError> {
    let group = inventory
        .device_group(&target.tenant(), &target.status)
        .await?;
    Ok(Json(Groups {
        groups: group.into_iter().collect(),
    }))
}

/// A search among the devices of one tenant.
async fn search_of_tenant(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<(HeaderMap, Json<Vec<DeviceInventory>>), ApiError> {
    run_search(&inventory, &target.tenant(), Reach::default(), &body).await
}

/// Numbers of devices of one tenant.
async fn statistics_of_tenant(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
) -> Result<Json<Statistics>, ApiError> {
    let everything = Reach::default();
    Ok(Json(
        inventory.statistics(&target.tenant(), &everything).await?,
    ))
}

/// Asks for a device's data to be made searchable again. Searches read the rows themselves, so there is nothing left
/// to do once the device is known to exist. Its id stands where another operation of this path has a status.
async fn reindex_device(
    State(inventory): State<Inventory>,
    Path(target): Path<Target>,
    query: QueryPairs,
) -> Result<StatusCode, ApiError> {
    if !matches!(query.first("service"), Some("inventory" | "deployments")) {
        return Err(ApiError::bad_request("unsupported service"));
    }
    inventory
        .get_device(&target.tenant(), &target.status)
        .await?;
    Ok(StatusCode::ACCEPTED)
}
