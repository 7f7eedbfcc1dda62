//! `/status`, `/health` and `/api/v1/…` of the internal listener, in the order of the specification.
//!
//! Calls that newer clients make are served beside those of the specification.

use ambidex_kit::{ApiError, Json, RawBody};
use ambidex_wire::management::workflows::{Definition, JobStatus, Started};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};

use crate::Workflows;
use crate::domain::{definition, job};
use crate::error::WorkflowsError;

const VERSION_MIN: HeaderName = HeaderName::from_static("x-workflows-min-version");

pub(crate) fn routes(workflows: Workflows) -> Router {
    Router::new()
        .route("/status", get(check_liveliness))
        .route("/health", get(check_health))
        .route("/api/v1/health", get(check_health))
        .route("/api/v1/workflow/{name}", post(start_workflow))
        .route("/api/v1/workflow/{name}/batch", post(start_batch_workflows))
        .route("/api/v1/workflow/{name}/{id}", get(workflow_status))
        .route("/api/v1/jobs/{id}", get(job_structure))
        .route(
            "/api/v1/metadata/workflows",
            get(list_workflows).post(register_workflow),
        )
        .with_state(workflows)
}

/// Check if service API is alive and serving requests
async fn check_liveliness() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Check if service and all operational dependencies are healthy.
async fn check_health(State(workflows): State<Workflows>) -> Result<StatusCode, ApiError> {
    let unhealthy = |what: &str, error: String| {
        let text = format!("error reaching {what}: {error}");
        ApiError::new(StatusCode::BAD_GATEWAY, text)
    };
    let inner = &workflows.0;
    let database = inner.db.ping().await;
    database.map_err(|error| unhealthy("the database", error.to_string()))?;
    let bus = inner.bus.ping().await;
    bus.map_err(|error| unhealthy("the message bus", error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The lowest version that the caller can do with.
fn version_min(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(value) = headers.get(VERSION_MIN) else {
        return Ok(None);
    };
    let version = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    version.map(Some).ok_or_else(|| {
        ApiError::bad_request("X-Workflows-Min-Version: expected the number of a version")
    })
}

/// Start a new workflow
async fn start_workflow(
    State(workflows): State<Workflows>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<Started>), ApiError> {
    let body: Value = body.json("Unable to parse the input parameters")?;
    let input = job::parameters(body)?;
    let inner = &workflows.0;
    let definition = job::workflow(inner, &name, version_min(&headers)?).await?;
    let prepared = job::prepare(inner, &definition, input)?;
    inner.db.apply(prepared.statements).await?;
    inner.jobs.wake();
    Ok((StatusCode::CREATED, Json(prepared.started)))
}

/// Start a batch of workflows: all or, when one of them is not acceptable, none.
async fn start_batch_workflows(
    State(workflows): State<Workflows>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<Vec<Started>>), ApiError> {
    let items: Vec<Value> = body.json("Unable to parse the input parameters")?;
    if items.len() > job::BATCH_MAX {
        let text = format!("at most {} jobs can be started at once", job::BATCH_MAX);
        return Err(ApiError::bad_request(text));
    }
    let inner = &workflows.0;
    let definition = job::workflow(inner, &name, version_min(&headers)?).await?;
    let prepared = items
        .into_iter()
        .map(|item| job::prepare(inner, &definition, job::parameters(item)?))
        .collect::<Result<Vec<_>, WorkflowsError>>()?;
    let (mut statements, mut started) = (Vec::new(), Vec::new());
    for one in prepared {
        statements.extend(one.statements);
        started.push(one.started);
    }
    inner.db.apply(statements).await?;
    inner.jobs.wake();
    Ok((StatusCode::CREATED, Json(started)))
}

/// Gets the workflow status for the given workflow name and id
async fn workflow_status(
    State(workflows): State<Workflows>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<JobStatus>, ApiError> {
    Ok(Json(job::status(&workflows.0, Some(&name), &id).await?))
}

/// Gets the job for the given id
async fn job_structure(
    State(workflows): State<Workflows>,
    Path(id): Path<String>,
) -> Result<Json<JobStatus>, ApiError> {
    Ok(Json(job::status(&workflows.0, None, &id).await?))
}

/// Get all workflow definitions
async fn list_workflows(
    State(workflows): State<Workflows>,
) -> Result<Json<Vec<Definition>>, ApiError> {
    Ok(Json(definition::list(&workflows.0).await?))
}

/// Register a new workflow
async fn register_workflow(
    State(workflows): State<Workflows>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let new: Definition = body.json("Error parsing JSON form")?;
    definition::register(&workflows.0, &new).await?;
    Ok(StatusCode::CREATED)
}
