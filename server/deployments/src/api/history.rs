//! What a device has been through, as operators and other services ask for it.

use ambidex_access::{TenantId, UserAuth};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, link_headers};
use ambidex_wire::management::deployments::DeviceDeployment;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use http::StatusCode;

use super::MANAGEMENT_V1;
use super::deployments::{remove_device_from_deployments, show, shown_device};
use crate::Context;
use crate::domain::deployment::Visible;
use crate::domain::{grants, history};
use crate::error::Error;
use crate::store;
use crate::store::device::StatusFilter;
use crate::store::history::Entry;

/// Entries of a page: each shows a whole deployment.
const PER_PAGE_MAX: u64 = 20;
/// Entries that one question by id may name.
const IDS_MAX: usize = 20;

pub fn routes() -> Router<Context> {
    let path = |rest: &str| format!("{MANAGEMENT_V1}/deployments/devices/{{id}}{rest}");
    Router::new()
        .route(
            &path(""),
            get(list_deployments_for_a_device).delete(remove_device_from_deployments),
        )
        .route(&path("/history"), delete(reset_device_deployments_history))
}

/// Return the deployments history for a device
async fn list_deployments_for_a_device(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    query: QueryPairs,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let visible = grants::visible(&user.grants);
    page(&context, &user.tenant, &id, &query, &uri, visible.as_ref()).await
}

/// A page of a device's history with its headers.
///
/// # Errors
/// 400 for a wrong filter or page.
pub async fn page(
    context: &Context,
    tenant: &TenantId,
    device_id: &str,
    query: &QueryPairs,
    uri: &http::Uri,
    visible: Option<&Visible>,
) -> Result<Response, ApiError> {
    let page = Page::parse(query, PER_PAGE_MAX, PER_PAGE_MAX)?;
    let word = query.first("status").filter(|word| !word.is_empty());
    let filter = StatusFilter::parse(word)?;
    if let Some(visible) = visible {
        // A user limited to groups sees the history of the devices of these groups.
        let ids = [device_id.to_owned()];
        let group = context
            .ports
            .inventory
            .groups_of(tenant, &ids)
            .await
            .map_err(Error::from)?
            .pop()
            .flatten();
        let seen = group.is_some_and(|group| visible.groups.contains(&group))
            || visible.devices.iter().any(|id| id == device_id);
        if !seen {
            return Err(ApiError::forbidden("Access denied (RBAC)."));
        }
    }
    let (entries, total) = store::history::page(
        &context.db,
        tenant,
        device_id,
        &filter,
        page.per_page,
        page.offset(),
    )
    .await?;
    let has_next = page.offset().saturating_add(page.per_page) < total;
    let shown = shown(context, tenant, entries).await?;
    Ok((link_headers(uri, &page, has_next, Some(total)), Json(shown)).into_response())
}

async fn shown(
    context: &Context,
    tenant: &TenantId,
    entries: Vec<Entry>,
) -> Result<Vec<DeviceDeployment>, Error> {
    let mut shown = Vec::with_capacity(entries.len());
    for entry in entries {
        let found = store::deployment::find(&context.db, tenant, &entry.deployment_id).await?;
        let Some(found) = found else { continue };
        shown.push(DeviceDeployment {
            id: history::entry_id(&entry.deployment_id, &entry.shown.device_id),
            deployment: show(context, tenant, found).await?,
            device: shown_device(entry.shown),
        });
    }
    Ok(shown)
}

/// Entries of histories by their ids, for other services; unknown ones are left out.
///
/// # Errors
/// 400 for too many ids.
pub async fn by_ids(
    context: &Context,
    tenant: &TenantId,
    query: &QueryPairs,
) -> Result<Vec<DeviceDeployment>, ApiError> {
    let ids: Vec<&str> = query.all("id").filter(|id| !id.is_empty()).collect();
    if ids.len() > IDS_MAX {
        return Err(ApiError::bad_request("too many ids given"));
    }
    let mut entries = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some((deployment_id, device_id)) = history::parse_entry_id(id) {
            entries
                .extend(store::history::find(&context.db, tenant, deployment_id, device_id).await?);
        }
    }
    Ok(shown(context, tenant, entries).await?)
}

/// Reset the deployments history of a device
async fn reset_device_deployments_history(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if user.grants.deployment_groups.is_some() {
        let ids = [id.clone()];
        let group = context
            .ports
            .inventory
            .groups_of(&user.tenant, &ids)
            .await
            .map_err(Error::from)?
            .pop()
            .flatten();
        if !user.grants.may_deploy_to(&id, group.as_deref()) {
            return Err(ApiError::forbidden("Access denied (RBAC)."));
        }
    }
    history::reset(&context, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
