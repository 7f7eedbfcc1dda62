//! `/roles`, in the order of the specification. Part of the plan enterprise.

use ambidex_access::{Plan, UserAuth};
use ambidex_kit::{ApiError, Json, RawBody};
use ambidex_wire::management::useradm::Role;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{HeaderValue, LOCATION};
use serde::Deserialize;

use super::BASE;
use crate::domain::role::{self, Draft};
use crate::{Useradm, UseradmError};

pub(crate) fn routes() -> Router<Useradm> {
    Router::new()
        .route(&format!("{BASE}/roles"), get(list_roles).post(create_role))
        .route(
            &format!("{BASE}/roles/{{id}}"),
            get(show_role).put(update_role).delete(delete_role),
        )
}

/// A role to be written; for an update the path may name it alone.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    permissions: Option<Vec<ambidex_wire::management::useradm::Permission>>,
}

/// The name of a role that a path and a body name: they must agree.
pub(super) fn agreed(path: String, body: &str) -> Result<String, ApiError> {
    if body.is_empty() || body == path {
        Ok(path)
    } else {
        Err(ApiError::bad_request(
            "name: the name of a role cannot be changed.",
        ))
    }
}

pub(super) fn location(name: &str) -> Result<HeaderValue, ApiError> {
    let escaped: String = name
        .bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    HeaderValue::from_str(&format!("roles/{escaped}")).map_err(ApiError::internal)
}

fn draft(body: Body) -> Result<Draft, UseradmError> {
    Draft::plain(Role {
        name: body.name,
        description: body.description.unwrap_or_default(),
        permissions: body.permissions.unwrap_or_default(),
    })
}

/// List existing roles
async fn list_roles(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<Json<Vec<Role>>, ApiError> {
    caller.requires(Plan::Enterprise)?;
    Ok(Json(role::list(&useradm.0, &caller.tenant).await?))
}

/// Create role
async fn create_role(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<Response, ApiError> {
    caller.requires(Plan::Enterprise)?;
    let draft = draft(body.json("failed to decode request body")?)?;
    let name = role::create(&useradm.0, &caller, draft).await?;
    Ok((StatusCode::CREATED, [(LOCATION, location(&name)?)]).into_response())
}

/// Get role information
async fn show_role(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(name): Path<String>,
) -> Result<Json<Role>, ApiError> {
    caller.requires(Plan::Enterprise)?;
    Ok(Json(role::get(&useradm.0, &caller.tenant, &name).await?))
}

/// Update role description and list of permissions.
async fn update_role(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    caller.requires(Plan::Enterprise)?;
    let mut body: Body = body.json("failed to decode request body")?;
    body.name = agreed(name, &body.name)?;
    role::update(&useradm.0, &caller, draft(body)?).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Remove role from the system
async fn delete_role(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.requires(Plan::Enterprise)?;
    role::delete(&useradm.0, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
