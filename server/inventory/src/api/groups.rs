//! Groups as operators call them (`/api/management/v1/inventory/groups`).

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers};
use ambidex_wire::management::inventory::GroupUpdate;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::routing::{delete, get};
use http::HeaderMap;

use crate::Inventory;
use crate::domain::group::GroupName;
use crate::domain::reach::Reach;
use crate::error::InventoryError;

pub fn routes() -> Router<Inventory> {
    const BASE: &str = "/api/management/v1/inventory/groups";
    let path = |rest: &str| format!("{BASE}{rest}");
    Router::new()
        .route(BASE, get(list_groups))
        .route(&path("/{name}"), delete(dissolve_group))
        .route(
            &path("/{name}/devices"),
            get(get_devices_in_group)
                .patch(add_devices_to_group)
                .delete(remove_devices_from_group),
        )
}

/// List all groups existing device groups.
async fn list_groups(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    query: QueryPairs,
) -> Result<Json<Vec<String>>, ApiError> {
    let status = query.first("status").filter(|status| !status.is_empty());
    let reach = Reach::from(&user.grants);
    let mut names = inventory.list_groups(&user.tenant, status).await?;
    names.retain(|name| reach.contains_group(name));
    Ok(Json(names))
}

/// List the devices belonging to a given group.
async fn get_devices_in_group(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    OriginalUri(uri): OriginalUri,
    Path(name): Path<String>,
    page: Page,
) -> Result<(HeaderMap, Json<Vec<String>>), ApiError> {
    demand_group(&user, &name)?;
    let (ids, total) = inventory
        .group_devices(&user.tenant, &name, page.per_page, page.offset())
        .await?;
    let more = page.offset() + (ids.len() as u64) < total;
    Ok((link_headers(&uri, &page, more, Some(total)), Json(ids)))
}

/// A group outside of what the user's roles reach is not found.
fn demand_group(user: &UserIdentity, name: &str) -> Result<(), InventoryError> {
    match Reach::from(&user.grants).contains_group(name) {
        true => Ok(()),
        false => Err(InventoryError::GroupNotFound),
    }
}

/// Devices outside of what the user's roles reach count as unknown.
async fn reached(
    inventory: &Inventory,
    user: &UserIdentity,
    ids: Vec<String>,
) -> Result<Vec<String>, InventoryError> {
    let reach = Reach::from(&user.grants);
    inventory.reached(&user.tenant, &reach, ids).await
}

fn device_ids(body: &RawBody) -> Result<Vec<String>, ApiError> {
    let ids: Vec<String> = body.json("invalid payload schema")?;
    if ids.is_empty() {
        return Err(ApiError::bad_request("no device IDs present in payload"));
    }
    Ok(ids)
}

/// Add devices to group.
async fn add_devices_to_group(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<Json<GroupUpdate>, ApiError> {
    let name = GroupName::parse(&name)?;
    let ids = reached(&inventory, &user, device_ids(&body)?).await?;
    Ok(Json(
        inventory
            .add_to_group(&user.tenant, &name, ids, Some(&user))
            .await?,
    ))
}

/// Clear devices' group.
async fn remove_devices_from_group(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<Json<GroupUpdate>, ApiError> {
    let name = GroupName::parse(&name)?;
    let ids = reached(&inventory, &user, device_ids(&body)?).await?;
    Ok(Json(
        inventory
            .remove_from_group(&user.tenant, &name, ids, Some(&user))
            .await?,
    ))
}

/// Take every device out of a group.
async fn dissolve_group(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(name): Path<String>,
) -> Result<Json<GroupUpdate>, ApiError> {
    let name = GroupName::parse(&name)?;
    demand_group(&user, name.as_str())?;
    Ok(Json(
        inventory
            .dissolve_group(&user.tenant, &name, Some(&user))
            .await?,
    ))
}
