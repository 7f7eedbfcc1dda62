//! Version 2 of the management API: roles made of sets of permissions, the own password.

use ambidex_access::{Plan, UserAuth};
use ambidex_kit::{ApiError, Json, Page, RawBody, link_headers};
use ambidex_wire::management::useradm as wire;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use super::roles::{agreed, location};
use crate::Useradm;
use crate::domain::rbac::sets;
use crate::domain::role::{self, Draft};
use crate::domain::user;

const BASE: &str = "/api/management/v2/useradm";

pub(crate) fn routes() -> Router<Useradm> {
    Router::new()
        .route(
            &format!("{BASE}/roles"),
            get(list_roles_v2).post(create_role_v2),
        )
        .route(
            &format!("{BASE}/roles/{{id}}"),
            get(show_role_v2).put(update_role_v2).delete(delete_role_v2),
        )
        .route(
            &format!("{BASE}/permission_sets"),
            get(list_permission_sets),
        )
        .route(&format!("{BASE}/users/me"), put(update_own_user_data_v2))
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    permission_sets_with_scope: Option<Vec<wire::ScopedPermissionSet>>,
}

fn draft(body: Body) -> Result<Draft, ApiError> {
    Ok(Draft::scoped(wire::ScopedRole {
        name: body.name,
        description: body.description.unwrap_or_default(),
        permission_sets_with_scope: body.permission_sets_with_scope.unwrap_or_default(),
        permissions: Vec::new(),
    })?)
}

/// One page of a list that is at hand as a whole.
fn paged<T>(uri: &Uri, page: &Page, all: Vec<T>) -> (HeaderMap, Json<Vec<T>>) {
    let total = all.len();
    let first = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let count = usize::try_from(page.per_page).unwrap_or(usize::MAX);
    let more = first.saturating_add(count) < total;
    let part = all.into_iter().skip(first).take(count).collect();
    (
        link_headers(uri, page, more, Some(total as u64)),
        Json(part),
    )
}

/// List existing roles
async fn list_roles_v2(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    OriginalUri(uri): OriginalUri,
    page: Page,
) -> Result<(HeaderMap, Json<Vec<wire::ScopedRole>>), ApiError> {
    caller.requires(Plan::Enterprise)?;
    let all = role::list_scoped(&useradm.0, &caller.tenant).await?;
    Ok(paged(&uri, &page, all))
}

/// Create role
async fn create_role_v2(
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
async fn show_role_v2(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(name): Path<String>,
) -> Result<Json<wire::ScopedRole>, ApiError> {
    caller.requires(Plan::Enterprise)?;
    Ok(Json(
        role::get_scoped(&useradm.0, &caller.tenant, &name).await?,
    ))
}

/// Update role
async fn update_role_v2(
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
async fn delete_role_v2(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.requires(Plan::Enterprise)?;
    role::delete(&useradm.0, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List permission sets
async fn list_permission_sets(
    UserAuth(caller): UserAuth,
    OriginalUri(uri): OriginalUri,
    page: Page,
) -> Result<(HeaderMap, Json<Vec<wire::PermissionSet>>), ApiError> {
    caller.requires(Plan::Enterprise)?;
    let all = sets::SETS.iter().map(sets::show).collect();
    Ok(paged(&uri, &page, all))
}

/// Update own user information
async fn update_own_user_data_v2(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let change = body.json("failed to decode request body")?;
    user::change_password(&useradm.0, &caller, change).await?;
    Ok(StatusCode::NO_CONTENT)
}
