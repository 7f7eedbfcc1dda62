//! Filters and searches as operators call them (`/api/management/v2/inventory/filters`).

use ambidex_access::{Plan, TenantId, UserAuth};
use ambidex_kit::{ApiError, Json, Page, RawBody, link_headers, total_count};
use ambidex_wire::management::inventory::{
    DeviceInventory, Filter, FilterAttribute, NewFilter, SearchRequest, SelectAttribute, Statistics,
};
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::routing::{get, post};
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, StatusCode};

use super::object;
use crate::Inventory;
use crate::domain::predicate::{AttributeKey, PredicateError, Term};
use crate::domain::reach::Reach;
use crate::domain::scope::Scope;
use crate::domain::search::{IDS_MAX, Search};
use crate::domain::sort::SortBy;
use crate::domain::text::{self, WORDS_MAX};
use crate::error::InventoryError;

const BASE: &str = "/api/management/v2/inventory/filters";
const STATISTICS: &str = "/api/management/v2/inventory/statistics";
const IDENTITIES: &str = "/api/management/v2alpha1/inventory/identities/search";
const PER_PAGE_DEFAULT: u64 = 20;
/// As for other listings (reference: common conventions).
const PER_PAGE_MAX: u64 = 500;
/// Keeps offsets within the integers of both database engines.
const PAGE_MAX: u64 = i64::MAX as u64 / PER_PAGE_MAX;

pub fn routes() -> Router<Inventory> {
    let path = |rest: &str| format!("{BASE}{rest}");
    Router::new()
        .route(BASE, get(list_filters).post(create_filter))
        .route(&path("/attributes"), get(get_filterable_attributes))
        .route(&path("/search"), post(search_device_inventories))
        .route(&path("/{id}"), get(show_filter).delete(delete_filter))
        .route(&path("/{id}/search"), get(execute_filter))
        .route(STATISTICS, get(get_statistics))
        .route(IDENTITIES, post(search_identities))
}

/// Get the list of filterable inventory attributes.
async fn get_filterable_attributes(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
) -> Result<Json<Vec<FilterAttribute>>, ApiError> {
    Ok(Json(inventory.filterable_attributes(&user.tenant).await?))
}

/// Search devices based on inventory attributes.
async fn search_device_inventories(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    body: RawBody,
) -> Result<(HeaderMap, Json<Vec<DeviceInventory>>), ApiError> {
    user.requires(Plan::Professional)?;
    run_search(&inventory, &user.tenant, Reach::from(&user.grants), &body).await
}

/// Search devices and show who they are: their identity, nothing that they or operators added.
async fn search_identities(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    body: RawBody,
) -> Result<(HeaderMap, Json<Vec<DeviceInventory>>), ApiError> {
    let reach = Reach::from(&user.grants);
    let (total, Json(mut devices)) = run_search(&inventory, &user.tenant, reach, &body).await?;
    for device in &mut devices {
        device
            .attributes
            .retain(|attribute| attribute.scope == Scope::Identity.as_str());
    }
    Ok((total, Json(devices)))
}

/// Numbers of devices by status and tier.
async fn get_statistics(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
) -> Result<Json<Statistics>, ApiError> {
    let reach = Reach::from(&user.grants);
    Ok(Json(inventory.statistics(&user.tenant, &reach).await?))
}

pub(super) async fn run_search(
    inventory: &Inventory,
    tenant: &TenantId,
    reach: Reach,
    body: &RawBody,
) -> Result<(HeaderMap, Json<Vec<DeviceInventory>>), ApiError> {
    let request: SearchRequest = match body.0.is_empty() {
        true => SearchRequest::default(),
        false => object(body, "failed to decode request body")?,
    };
    let (page, per_page) = paging(&request)?;
    let search = Search {
        reach,
        ..read_search(request)?
    };
    let (devices, total) = inventory
        .search(tenant, &search, per_page, (page - 1) * per_page)
        .await?;
    Ok((total_count(total), Json(devices)))
}

/// Page and entries a page; what is too small becomes the default.
fn paging(request: &SearchRequest) -> Result<(u64, u64), ApiError> {
    let at_least_one = |number: Option<i64>, default: u64| match number.map(u64::try_from) {
        Some(Ok(number)) if number > 0 => number,
        _ => default,
    };
    let page = at_least_one(request.page, 1);
    let per_page = at_least_one(request.per_page, PER_PAGE_DEFAULT);
    if per_page > PER_PAGE_MAX {
        return Err(ApiError::bad_request("Param per_page is out of bounds"));
    }
    if page > PAGE_MAX {
        return Err(ApiError::bad_request("Param page is out of bounds"));
    }
    Ok((page, per_page))
}

fn read_search(request: SearchRequest) -> Result<Search, InventoryError> {
    let key = |select: SelectAttribute| {
        let scope = Scope::parse(&select.scope);
        match scope {
            _ if select.attribute.is_empty() => {
                Err(PredicateError("attribute: cannot be blank.".to_owned()))
            }
            Some(scope) => Ok(AttributeKey {
                scope,
                name: select.attribute,
            }),
            None if select.scope.is_empty() => {
                Err(PredicateError("scope: cannot be blank.".to_owned()))
            }
            None => Err(PredicateError(
                "scope: must be one of system, identity, inventory, monitor, tags.".to_owned(),
            )),
        }
    };
    let attributes = request.attributes.filter(|list| !list.is_empty());
    let attributes = attributes
        .map(|list| list.into_iter().map(key).collect::<Result<_, _>>())
        .transpose()?;
    let device_ids = request
        .device_ids
        .filter(|ids| !ids.is_empty())
        .map(|mut ids| {
            ids.sort_unstable();
            ids.dedup();
            ids
        });
    if device_ids.as_ref().is_some_and(|ids| ids.len() > IDS_MAX) {
        return Err(InventoryError::Invalid(format!(
            "more than {IDS_MAX} ids in one search"
        )));
    }
    let words = text::words(&request.text.unwrap_or_default());
    if words.len() > WORDS_MAX {
        return Err(InventoryError::Invalid(format!(
            "text: more than {WORDS_MAX} words in one search"
        )));
    }
    Ok(Search {
        terms: Term::compile_all(&request.filters.unwrap_or_default())?,
        sort: SortBy::compile_all(&request.sort.unwrap_or_default())?,
        device_ids,
        words,
        attributes,
        reach: Reach::default(),
    })
}

/// List all the saved filters.
async fn list_filters(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    OriginalUri(uri): OriginalUri,
    page: Page,
) -> Result<(HeaderMap, Json<Vec<Filter>>), ApiError> {
    user.requires(Plan::Enterprise)?;
    let (filters, total) = inventory
        .list_filters(&user.tenant, page.per_page, page.offset())
        .await?;
    let more = page.offset() + (filters.len() as u64) < total;
    Ok((link_headers(&uri, &page, more, Some(total)), Json(filters)))
}

/// Create a new saved filter from a filter definition.
async fn create_filter(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    body: RawBody,
) -> Result<(StatusCode, [(HeaderName, String); 1]), ApiError> {
    user.requires(Plan::Enterprise)?;
    let new: NewFilter = object(&body, "failed to decode request body")?;
    let id = inventory
        .create_filter(&user.tenant, &new, Some(&user))
        .await?;
    Ok((StatusCode::CREATED, [(LOCATION, format!("{BASE}/{id}"))]))
}

/// Get the definition of a saved filter.
async fn show_filter(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
) -> Result<Json<Filter>, ApiError> {
    user.requires(Plan::Enterprise)?;
    Ok(Json(inventory.get_filter(&user.tenant, &id).await?))
}

/// Delete a saved filter.
async fn delete_filter(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    user.requires(Plan::Enterprise)?;
    if uuid::Uuid::parse_str(&id).is_err() {
        return Err(ApiError::bad_request("filter id must be a UUID"));
    }
    inventory
        .delete_filter(&user.tenant, &id, Some(&user))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Search devices using saved filter.
async fn execute_filter(
    UserAuth(user): UserAuth,
    State(inventory): State<Inventory>,
    OriginalUri(uri): OriginalUri,
    Path(id): Path<String>,
    page: Page,
) -> Result<(HeaderMap, Json<Vec<DeviceInventory>>), ApiError> {
    user.requires(Plan::Enterprise)?;
    let (devices, total) = inventory
        .run_filter(
            &user.tenant,
            &id,
            Reach::from(&user.grants),
            page.per_page,
            page.offset(),
        )
        .await?;
    let more = page.offset() + (devices.len() as u64) < total;
    Ok((link_headers(&uri, &page, more, Some(total)), Json(devices)))
}
