//! Deployments as operators call them.

use ambidex_access::{TenantId, UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers, rfc3339};
use ambidex_wire::management::deployments::{
    Deployment, DeploymentDevice, DeploymentStatusChange, DeviceImage, NewDeployment, Statistics,
    StatisticsItem, StatisticsQuery,
};
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};

use super::{MANAGEMENT_V1, id};
use crate::Context;
use crate::domain::deployment::{self, Filter, Status};
use crate::domain::{abort, creation, decommission, draft, report};
use crate::error::Error;
use crate::store;
use crate::store::device::Shown;

/// Deployments that one call of `statistics/list` may name.
const STATISTICS_IDS_MAX: usize = 100;

pub fn routes() -> Router<Context> {
    let path = |rest: &str| format!("{MANAGEMENT_V1}/deployments{rest}");
    Router::new()
        .route(&path(""), get(list_deployments).post(create_deployment))
        .route(&path("/group"), post(create_deployment_without_group))
        .route(&path("/group/"), post(create_deployment_without_group))
        .route(
            &path("/group/{name}"),
            post(create_deployment_for_a_group_of_devices),
        )
        .route(&path("/statistics/list"), post(list_deployment_statistics))
        .route(
            &path("/devices/{id}"),
            delete(remove_device_from_deployments),
        )
        .route(&path("/{id}"), get(show_deployment))
        .route(&path("/{id}/status"), put(abort_deployment))
        .route(&path("/{id}/statistics"), get(deployment_status_statistics))
        .route(&path("/{id}/devices"), get(list_devices_in_deployment))
        .route(
            &path("/{id}/devices/list"),
            get(list_devices_in_deployment_paged),
        )
        .route(
            &path("/{id}/device_list"),
            get(list_device_ids_in_deployment),
        )
        .route(
            &path("/{id}/devices/{device_id}/log"),
            get(get_deployment_log_for_device),
        )
}

const DEPLOYMENT_NOT_FOUND: Error = Error::NotFound("Deployment not found");

/// Find all deployments
async fn list_deployments(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    list(&context, &user.tenant, &filter(&query)?, &page, &uri).await
}

/// A page of deployments with its headers.
pub async fn list(
    context: &Context,
    tenant: &TenantId,
    filter: &Filter,
    page: &Page,
    uri: &http::Uri,
) -> Result<Response, ApiError> {
    let now_ms = context.clock.now_ms();
    let found = store::deployment::list(
        &context.db,
        tenant,
        filter,
        page.per_page,
        page.offset(),
        now_ms,
    )
    .await?;
    let total = store::deployment::count(&context.db, tenant, filter, now_ms).await?;
    let has_next = page.offset().saturating_add(page.per_page) < total;
    let mut shown = Vec::with_capacity(found.len());
    for deployment in found {
        shown.push(show(context, tenant, deployment).await?);
    }
    Ok((link_headers(uri, page, has_next, Some(total)), Json(shown)).into_response())
}

async fn show(
    context: &Context,
    tenant: &TenantId,
    deployment: deployment::Deployment,
) -> Result<Deployment, Error> {
    let phases = if deployment.phased {
        store::phase::list(&context.db, tenant, deployment.number).await?
    } else {
        Vec::new()
    };
    let artifacts = store::deployment::artifacts(&context.db, tenant, deployment.number).await?;
    Ok(deployment.into_wire(phases, artifacts, context.clock.now_ms()))
}

/// Reads the filters of a list.
///
/// # Errors
/// 400 that names the wrong one.
pub fn filter(query: &QueryPairs) -> Result<Filter, ApiError> {
    let text = |key: &str| query.first(key).filter(|text| !text.is_empty());
    let seconds = |key: &str| {
        text(key)
            .map(|text| {
                text.parse::<i64>().map_err(|_| {
                    ApiError::bad_request(format!(
                        "timestamp parsing failed for {key} parameter: invalid timestamp: {}",
                        text.chars().take(64).collect::<String>()
                    ))
                })
            })
            .transpose()
    };
    let status = match text("status") {
        None => None,
        // An aborted deployment is one that has finished.
        Some("aborted") => Some(Status::Finished),
        Some(word) => Some(Status::parse(word).ok_or_else(|| {
            let word: String = word.chars().take(64).collect();
            ApiError::bad_request(format!("unknown status {word}"))
        })?),
    };
    let ascending = match text("sort") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(ApiError::bad_request("sort: must be asc or desc")),
    };
    let all = |key: &str| {
        query
            .all(key)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect()
    };
    Ok(Filter {
        status,
        search: text("search").map(str::to_owned),
        created_before_s: seconds("created_before")?,
        created_after_s: seconds("created_after")?,
        kind: text("type").map(str::to_owned),
        names: all("name"),
        ids: all("id"),
        ascending,
    })
}

/// Create a deployment
async fn create_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    body: RawBody,
) -> Result<Response, ApiError> {
    create(&context, &user, &body, None).await
}

/// Create a deployment for a group of devices
async fn create_deployment_for_a_group_of_devices(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<Response, ApiError> {
    create(&context, &user, &body, Some(name)).await
}

/// Refuse a deployment for a group without a name
async fn create_deployment_without_group(UserAuth(_): UserAuth) -> ApiError {
    ApiError::bad_request("Missing group name")
}

async fn create(
    context: &Context,
    user: &UserIdentity,
    body: &RawBody,
    group: Option<String>,
) -> Result<Response, ApiError> {
    let body: NewDeployment = body.json("Validating request body")?;
    check_plan(user, &body)?;
    let draft = draft::parse(body, group, context.clock.now_ms())?;
    let id = creation::create(context, &user.tenant, draft).await?;
    let location = format!("{MANAGEMENT_V1}/deployments/{id}");
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// Phases, later starts and retries belong to the plans above `os`. A server without tenants has no
/// plans.
fn check_plan(user: &UserIdentity, body: &NewDeployment) -> Result<(), ApiError> {
    let phased = body.phases.len() > 1 || body.phases.iter().any(|phase| phase.start_ts.is_some());
    let wanted = phased || body.retries.is_some_and(|retries| retries > 0);
    if wanted && !user.tenant.as_str().is_empty() && user.plan == "os" {
        return Err(ApiError::forbidden("Feature not available in your Plan."));
    }
    Ok(())
}

async fn found(
    context: &Context,
    tenant: &TenantId,
    id: &str,
) -> Result<deployment::Deployment, ApiError> {
    let id = id::parse(id)?;
    Ok(store::deployment::find(&context.db, tenant, &id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?)
}

/// Get the details of a selected deployment
async fn show_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Deployment>, ApiError> {
    let deployment = found(&context, &user.tenant, &id).await?;
    Ok(Json(show(&context, &user.tenant, deployment).await?))
}

/// Abort the deployment
async fn abort_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let id = id::parse(&id)?;
    let change: DeploymentStatusChange = body.json("failed to decode request body")?;
    if change.status != "aborted" {
        return Err(ApiError::bad_request("Unexpected deployment status"));
    }
    abort::abort(&context, &user.tenant, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get status count for all devices in a deployment
async fn deployment_status_statistics(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Statistics>, ApiError> {
    Ok(Json(
        found(&context, &user.tenant, &id).await?.counts.into_wire(),
    ))
}

/// Get status counts of several deployments
async fn list_deployment_statistics(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Json(body): Json<StatisticsQuery>,
) -> Result<Json<Vec<StatisticsItem>>, ApiError> {
    if body.deployment_ids.is_empty() || body.deployment_ids.len() > STATISTICS_IDS_MAX {
        return Err(ApiError::bad_request(format!(
            "deployment_ids: the length must be between 1 and {STATISTICS_IDS_MAX}."
        )));
    }
    let mut items = Vec::with_capacity(body.deployment_ids.len());
    for id in body.deployment_ids {
        let id = id::parse(&id)?;
        if let Some(found) = store::deployment::find(&context.db, &user.tenant, &id).await? {
            items.push(StatisticsItem {
                id,
                stats: found.counts.into_wire(),
            });
        }
    }
    Ok(Json(items))
}

fn device(shown: Shown) -> DeploymentDevice {
    let Shown {
        artifact_id,
        artifact_size_bytes,
        ..
    } = shown;
    DeploymentDevice {
        id: shown.device_id,
        status: shown.status,
        log: shown.has_log,
        created: Some(rfc3339(shown.created_ms)),
        started: shown.started_ms.map(rfc3339),
        finished: shown.finished_ms.map(rfc3339),
        device_type: shown.device_type,
        state: None,
        substate: shown.substate,
        attempts: (shown.retries > 0).then_some(shown.attempts),
        retries: (shown.retries > 0).then_some(shown.retries),
        image: artifact_id.map(|id| DeviceImage {
            id,
            size: artifact_size_bytes.unwrap_or(0),
        }),
    }
}

async fn devices(
    context: &Context,
    tenant: &TenantId,
    id: &str,
) -> Result<Vec<DeploymentDevice>, ApiError> {
    let id = id::parse(id)?;
    let number = store::deployment::number(&context.db, tenant, &id)
        .await?
        .ok_or(DEPLOYMENT_NOT_FOUND)?;
    let shown = store::device::list(&context.db, tenant, number).await?;
    Ok(shown.into_iter().map(device).collect())
}

/// Get list of all devices and their respective status for the deployment
async fn list_devices_in_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Vec<DeploymentDevice>>, ApiError> {
    Ok(Json(devices(&context, &user.tenant, &id).await?))
}

/// Get a page of the devices and their respective status for the deployment
async fn list_devices_in_deployment_paged(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let word = query.first("status").filter(|word| !word.is_empty());
    let wanted = store::device::StatusFilter::parse(word)?;
    let id = id::parse(&id)?;
    let number = store::deployment::number(&context.db, &user.tenant, &id)
        .await?
        .ok_or(DEPLOYMENT_NOT_FOUND)?;
    let (shown, total) = store::device::page(
        &context.db,
        &user.tenant,
        number,
        &wanted,
        page.per_page,
        page.offset(),
    )
    .await?;
    let has_next = page.offset().saturating_add(page.per_page) < total;
    let shown: Vec<DeploymentDevice> = shown.into_iter().map(device).collect();
    Ok((
        link_headers(&uri, &page, has_next, Some(total)),
        Json(shown),
    )
        .into_response())
}

/// Get the list of device IDs being part of the deployment
async fn list_device_ids_in_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Vec<String>>, ApiError> {
    let deployment = found(&context, &user.tenant, &id).await?;
    if deployment.dynamic {
        return Ok(Json(Vec::new()));
    }
    Ok(Json(
        store::device::targets(&context.db, &user.tenant, deployment.number).await?,
    ))
}

/// Get the log of a selected device's deployment
async fn get_deployment_log_for_device(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path((id, device_id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let messages = store::log::find(&context.db, &user.tenant, &id, &device_id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    Ok(([(CONTENT_TYPE, "text/plain")], report::log_text(&messages)).into_response())
}

/// Remove device from all deployments
async fn remove_device_from_deployments(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    decommission::device(&context, &user.tenant, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
