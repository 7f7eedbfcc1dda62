//! Deployments as operators call them.

use ambidex_access::{Plan, TenantId, UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers, new_id, rfc3339};
use ambidex_wire::management::deployments::{
    Deployment, DeploymentChange, DeploymentDevice, DeploymentStatusChange, DeviceImage,
    NewDeployment, Statistics, StatisticsItem, StatisticsQuery,
};
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};

use super::streamed::{self, STRETCH_ROWS};
use super::{MANAGEMENT_V1, MANAGEMENT_V2, id};
use crate::Context;
use crate::domain::deployment::{self, Filter, Status};
use crate::domain::draft::{self, Scope};
use crate::domain::{abort, audit, control_map, creation, decommission, grants, report};
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
            &path("/{id}"),
            get(show_deployment).patch(update_deployment),
        )
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
        .route(
            &format!("{MANAGEMENT_V1}/config"),
            get(get_deployments_config),
        )
        .route(&path("/config"), get(get_deployments_config))
        .route(
            &format!("{MANAGEMENT_V2}/deployments"),
            get(list_deployments_v2).post(create_deployment_v2),
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
    let filter = Filter {
        groups: grants::visible(&user.grants),
        ..filter(&query)?
    };
    list(&context, &user.tenant, &filter, &page, &uri).await
}

/// Devices that the fallback of [`list_deployments_v2`] takes into account.
const FALLBACK_DEVICES_MAX: usize = 20;
/// Deployments of these devices that it shows.
const FALLBACK_DEPLOYMENTS_MAX: u64 = 500;

/// List all the deployments matching the specified filter parameters
async fn list_deployments_v2(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut filter = Filter {
        groups: grants::visible(&user.grants),
        ..filter(&query)?
    };
    let attribute = query.first("id_attribute").filter(|text| !text.is_empty());
    let scope = match query.first("id_scope").filter(|text| !text.is_empty()) {
        None if attribute == Some("name") => "inventory",
        None => "identity",
        Some(scope @ ("identity" | "inventory")) => scope,
        Some(_) => {
            return Err(ApiError::bad_request(
                "id_scope: must be identity or inventory",
            ));
        }
    };
    // A name that no deployment has may be that of a device.
    if let (Some(attribute), Some(name)) = (attribute, filter.names.first().cloned()) {
        let now_ms = context.clock.now_ms();
        let tenant = &user.tenant;
        if store::deployment::count(&context.db, tenant, &filter, now_ms).await? == 0 {
            let devices = context
                .ports
                .inventory
                .devices_with(tenant, (scope, attribute), &name, FALLBACK_DEVICES_MAX)
                .await
                .map_err(Error::from)?;
            filter.names.clear();
            filter.ids =
                store::history::targeting(&context.db, tenant, &devices, FALLBACK_DEPLOYMENTS_MAX)
                    .await?;
            if filter.ids.is_empty() {
                // Nothing has an empty id.
                filter.ids.push(String::new());
            }
        }
    }
    list(&context, &user.tenant, &filter, &page, &uri).await
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

/// A deployment as clients see it.
pub async fn show(
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
    let groups = store::group::list(&context.db, tenant, deployment.number).await?;
    Ok(deployment.into_wire(phases, artifacts, groups, context.clock.now_ms()))
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
        groups: None,
    })
}

/// Create a deployment
async fn create_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    body: RawBody,
) -> Result<Response, ApiError> {
    create(&context, &user, &body, Scope::Devices).await
}

/// Create a deployment for a group of devices
async fn create_deployment_for_a_group_of_devices(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<Response, ApiError> {
    create(&context, &user, &body, Scope::Group(name)).await
}

/// Refuse a deployment for a group without a name
async fn create_deployment_without_group(UserAuth(_): UserAuth) -> ApiError {
    ApiError::bad_request("Missing group name")
}

/// Create a deployment for whatever devices meet a filter
async fn create_deployment_v2(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    body: RawBody,
) -> Result<Response, ApiError> {
    create(&context, &user, &body, Scope::Filter).await
}

async fn create(
    context: &Context,
    user: &UserIdentity,
    body: &RawBody,
    scope: Scope,
) -> Result<Response, ApiError> {
    let body: NewDeployment = body.json("Validating request body")?;
    let base = match scope {
        Scope::Filter => MANAGEMENT_V2,
        _ => MANAGEMENT_V1,
    };
    user.requires(plan_of(&body, &scope))?;
    let id = new_id().to_string();
    let draft = draft::parse(body, scope, id, context.clock.now_ms())?;
    let id = creation::create(context, user, draft).await?;
    let location = format!("{base}/deployments/{id}");
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// Phases, later starts and retries belong to the plans above `os`, deployments by filter and control maps
/// to `enterprise` alone.
fn plan_of(body: &NewDeployment, scope: &Scope) -> Plan {
    let phased = body.phases.len() > 1 || body.phases.iter().any(|phase| phase.start_ts.is_some());
    let mapped = body.update_control_map.as_ref().is_some_and(|map| {
        map.get("states")
            .and_then(serde_json::Value::as_object)
            .is_some_and(|states| !states.is_empty())
    });
    if mapped || *scope == Scope::Filter {
        Plan::Enterprise
    } else if phased || body.retries.is_some_and(|retries| retries > 0) {
        Plan::Professional
    } else {
        Plan::Os
    }
}

/// A deployment that the user sees.
async fn found(
    context: &Context,
    user: &UserIdentity,
    id: &str,
) -> Result<deployment::Deployment, ApiError> {
    let id = id::parse(id)?;
    seen(context, user, &id, Error::RESOURCE_NOT_FOUND).await?;
    Ok(store::deployment::find(&context.db, &user.tenant, &id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?)
}

/// What the user may not see is not there.
async fn seen(
    context: &Context,
    user: &UserIdentity,
    id: &str,
    otherwise: Error,
) -> Result<(), Error> {
    if grants::sees_deployment(context, &user.tenant, &user.grants, id).await? {
        Ok(())
    } else {
        Err(otherwise)
    }
}

/// The number of a deployment that the user sees.
async fn number(context: &Context, user: &UserIdentity, id: &str) -> Result<i64, ApiError> {
    let id = id::parse(id)?;
    seen(context, user, &id, DEPLOYMENT_NOT_FOUND).await?;
    Ok(store::deployment::number(&context.db, &user.tenant, &id)
        .await?
        .ok_or(DEPLOYMENT_NOT_FOUND)?)
}

/// Change where the devices of a deployment are to pause
async fn update_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    user.requires(Plan::Enterprise)?;
    let id = id::parse(&id)?;
    let change: DeploymentChange = body.json("failed to decode request body")?;
    let map = control_map::parse(change.update_control_map.as_ref(), &id)?;
    let found = found(&context, &user, &id).await?;
    let batch = vec![
        store::deployment::set_control_map(&user.tenant, &id, map.as_deref()),
        audit::deployment(&context, &user, audit::UPDATE, &found),
    ];
    match context.db.apply(batch).await.map_err(Error::from) {
        Err(error) if error.is_lost_race() => {
            return Err(ApiError::unprocessable("Deployment already finished"));
        }
        outcome => outcome?,
    };
    context.jobs.wake();
    Ok(StatusCode::NO_CONTENT)
}

/// Get what this server can do beyond deployments of whole artifacts
///
/// It makes no binary deltas: web interfaces hide the settings for them then.
async fn get_deployments_config(UserAuth(_): UserAuth) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "delta": { "enabled": false } }))
}

/// Get the details of a selected deployment
async fn show_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Deployment>, ApiError> {
    let deployment = found(&context, &user, &id).await?;
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
    seen(&context, &user, &id, Error::RESOURCE_NOT_FOUND).await?;
    abort::abort(&context, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get status count for all devices in a deployment
async fn deployment_status_statistics(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Statistics>, ApiError> {
    Ok(Json(found(&context, &user, &id).await?.counts.into_wire()))
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
        if !grants::sees_deployment(&context, &user.tenant, &user.grants, &id).await? {
            continue;
        }
        if let Some(found) = store::deployment::find(&context.db, &user.tenant, &id).await? {
            items.push(StatisticsItem {
                id,
                stats: found.counts.into_wire(),
            });
        }
    }
    Ok(Json(items))
}

/// A device of a deployment as clients see it.
pub fn shown_device(shown: Shown) -> DeploymentDevice {
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
        deleted: shown.deleted_ms.map(rfc3339),
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

/// Get list of all devices and their respective status for the deployment
async fn list_devices_in_deployment(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let number = number(&context, &user, &id).await?;
    let fetch = move |after: String| {
        let (db, tenant) = (context.db.clone(), user.tenant.clone());
        async move {
            let rows = store::device::list(&db, &tenant, number, &after, STRETCH_ROWS).await?;
            Ok(rows.into_iter().map(shown_device).collect::<Vec<_>>())
        }
    };
    let first = fetch(String::new()).await?;
    Ok(streamed::array(first, |device| &device.id, fetch))
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
    let number = number(&context, &user, &id).await?;
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
    let shown: Vec<DeploymentDevice> = shown.into_iter().map(shown_device).collect();
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
) -> Result<Response, ApiError> {
    let deployment = found(&context, &user, &id).await?;
    if deployment.dynamic {
        return Ok(Json(Vec::<String>::new()).into_response());
    }
    let number = deployment.number;
    let fetch = move |after: String| {
        let (db, tenant) = (context.db.clone(), user.tenant.clone());
        async move { store::device::targets(&db, &tenant, number, &after, STRETCH_ROWS).await }
    };
    let first = fetch(String::new()).await?;
    Ok(streamed::array(first, |id| id, fetch))
}

/// Get the log of a selected device's deployment
async fn get_deployment_log_for_device(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path((id, device_id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    seen(&context, &user, &id, Error::RESOURCE_NOT_FOUND).await?;
    let messages = store::log::find(&context.db, &user.tenant, &id, &device_id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    Ok(([(CONTENT_TYPE, "text/plain")], report::log_text(&messages)).into_response())
}

/// Remove device from all deployments
pub async fn remove_device_from_deployments(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    decommission::device(&context, &user.tenant, &id).await?;
    let gone = "removed from all deployments";
    let audit = audit::device(&context, &user, audit::ABORT, &id, gone);
    context.db.apply(vec![audit]).await?;
    context.jobs.wake();
    Ok(StatusCode::NO_CONTENT)
}
