//! Devices as operators call them (`/api/management/v1/inventory/devices`).

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers};
use ambidex_wire::management::inventory::{DeviceInventory, Group};
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::routing::{delete, get, put};
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;

use super::{attributes, object};
use crate::Inventory;
use crate::domain::group::GroupName;
use crate::domain::predicate::{AttributeKey, Operand, TERMS_MAX, Term, Test};
use crate::domain::reach::Reach;
use crate::domain::scope::Scope;
use crate::domain::search::Search;
use crate::domain::sort::{Direction, SORT_KEYS_MAX, SortBy};

pub fn routes() -> Router<Inventory> {
    const BASE: &str = "/api/management/v1/inventory/devices";
    let path = |rest: &str| format!("{BASE}{rest}");
    Router::new()
        .route(BASE, get(list_device_inventories))
        .route(
            &path("/{id}"),
            get(get_device_inventory).delete(delete_device_inventory),
        )
        .route(
            &path("/{id}/group"),
            get(get_device_group).put(assign_group),
        )
        .route(&path("/{id}/group/{name}"), delete(clear_group))
        .route(&path("/{id}/tags"), put(replace_tags).patch(assign_tags))
}

/// List devices inventories.
async fn list_device_inventories(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    OriginalUri(uri): OriginalUri,
    page: Page,
    query: QueryPairs,
) -> Result<(HeaderMap, Json<Vec<DeviceInventory>>), ApiError> {
    let search = Search {
        reach: Reach::from(&user.grants),
        ..read_query(&query)?
    };
    let (devices, total) = inventory
        .search(&user.tenant, &search, page.per_page, page.offset())
        .await?;
    let more = page.offset() + (devices.len() as u64) < total;
    Ok((link_headers(&uri, &page, more, Some(total)), Json(devices)))
}

/// A device outside of what the user's roles reach is not found.
async fn reach(inventory: &Inventory, user: &UserIdentity, id: &str) -> Result<(), ApiError> {
    let reach = Reach::from(&user.grants);
    Ok(inventory.demand_reach(&user.tenant, &reach, id).await?)
}

/// The search that a query string asks for: `scope/name=value`, `sort`, `group`, `has_group`.
fn read_query(query: &QueryPairs) -> Result<Search, ApiError> {
    let mut search = Search::default();
    for (name, value) in &query.0 {
        match name.as_str() {
            "page" | "per_page" | "" => {}
            "sort" => {
                let keys = value.split(',').filter(|part| !part.is_empty());
                search
                    .sort
                    .extend(keys.map(read_sort).collect::<Result<Vec<_>, _>>()?);
            }
            "has_group" => {
                let wanted = match value.as_str() {
                    "true" | "True" | "TRUE" | "t" | "T" | "1" => true,
                    "false" | "False" | "FALSE" | "f" | "F" | "0" => false,
                    _ => return Err(ApiError::bad_request("Can't parse param has_group")),
                };
                search.terms.push(group_term(Test::Exists(wanted)));
            }
            "group" => search
                .terms
                .push(group_term(Test::Equal(Operand::Text(value.clone())))),
            _ => search.terms.push(Term {
                key: read_key(name)?,
                test: read_value(value),
            }),
        }
    }
    if search.terms.len() > TERMS_MAX || search.sort.len() > SORT_KEYS_MAX {
        return Err(ApiError::bad_request(format!(
            "more than {TERMS_MAX} conditions or {SORT_KEYS_MAX} sort keys in one search"
        )));
    }
    Ok(search)
}

fn group_term(test: Test) -> Term {
    Term {
        key: AttributeKey {
            scope: Scope::System,
            name: "group".to_owned(),
        },
        test,
    }
}

/// `[scope/]name`, of scope `inventory` unless told.
fn read_key(text: &str) -> Result<AttributeKey, ApiError> {
    let (scope, name) = match text.split_once('/') {
        None => (Scope::Inventory, text),
        Some((scope, name)) => {
            let scope = Scope::parse(scope).ok_or_else(|| {
                ApiError::bad_request(
                    "scope: must be one of system, identity, inventory, monitor, tags.",
                )
            })?;
            (scope, name)
        }
    };
    Ok(AttributeKey {
        scope,
        name: name.to_owned(),
    })
}

/// `value` or `eq:value`; it stands for the text and, where it is one, for the number.
fn read_value(text: &str) -> Test {
    let text = text.strip_prefix("eq:").unwrap_or(text);
    let mut operands = vec![Operand::Text(text.to_owned())];
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => {
            operands.push(Operand::Number(number));
            Test::In(operands)
        }
        _ => Test::Equal(Operand::Text(text.to_owned())),
    }
}

/// `[scope/]name[:asc|desc]`, descending unless told.
fn read_sort(text: &str) -> Result<SortBy, ApiError> {
    let (name, direction) = match text.rsplit_once(':') {
        None => (text, Direction::Descending),
        Some((name, "asc")) => (name, Direction::Ascending),
        Some((name, "desc")) => (name, Direction::Descending),
        Some(_) => return Err(ApiError::bad_request("invalid sort order")),
    };
    Ok(SortBy {
        key: read_key(name)?,
        direction,
    })
}

/// Get a selected device's inventory.
async fn get_device_inventory(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
) -> Result<([(HeaderName, String); 1], Json<DeviceInventory>), ApiError> {
    reach(&inventory, &user, &id).await?;
    let tag = inventory.tags_entity_tag(&user.tenant, &id).await?;
    Ok((
        [(ETAG, tag)],
        Json(inventory.get_device(&user.tenant, &id).await?),
    ))
}

/// Remove selected device's inventory.
async fn delete_device_inventory(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    reach(&inventory, &user, &id).await?;
    inventory
        .clear_inventory(&user.tenant, &id, Some(&user))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get a selected device's group.
async fn get_device_group(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
) -> Result<Json<Group>, ApiError> {
    reach(&inventory, &user, &id).await?;
    Ok(Json(Group {
        group: inventory.device_group(&user.tenant, &id).await?,
    }))
}

#[derive(Deserialize)]
struct GroupBody {
    #[serde(default)]
    group: String,
}

/// Add a device to a group.
async fn assign_group(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    const PREFIX: &str = "failed to decode device group data";
    reach(&inventory, &user, &id).await?;
    if body.0.is_empty() {
        return Err(ApiError::bad_request(format!(
            "{PREFIX}: JSON payload is empty"
        )));
    }
    let body: GroupBody = object(&body, PREFIX)?;
    inventory
        .assign_group(
            &user.tenant,
            &id,
            &GroupName::parse(&body.group)?,
            Some(&user),
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a device from a group.
async fn clear_group(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    reach(&inventory, &user, &id).await?;
    inventory
        .clear_group(&user.tenant, &id, &name, Some(&user))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace the tags of a device.
async fn replace_tags(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    reach(&inventory, &user, &id).await?;
    let expected = if_match(&headers)?;
    inventory
        .set_tags(
            &user.tenant,
            &id,
            attributes(&body)?,
            true,
            expected,
            Some(&user),
        )
        .await?;
    Ok(StatusCode::OK)
}

/// Merge tags into those of a device.
async fn assign_tags(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    reach(&inventory, &user, &id).await?;
    let expected = if_match(&headers)?;
    inventory
        .set_tags(
            &user.tenant,
            &id,
            attributes(&body)?,
            false,
            expected,
            Some(&user),
        )
        .await?;
    Ok(StatusCode::OK)
}

fn if_match(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    headers
        .get(IF_MATCH)
        .map(|value| {
            value
                .to_str()
                .map_err(|_| ApiError::bad_request("If-Match is not an entity tag"))
        })
        .transpose()
}
