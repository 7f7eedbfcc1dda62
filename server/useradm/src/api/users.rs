//! `/users`, in the order of the specification.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json, QueryPairs};
use ambidex_wire::management::useradm as wire;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{HeaderValue, LOCATION};

use super::{BASE, filter, me, view};
use crate::domain::user::{self, Change};
use crate::{NewUser, Secret, Useradm};

pub(crate) fn routes() -> Router<Useradm> {
    Router::new()
        .route(&format!("{BASE}/users"), get(list_users).post(create_user))
        .route(
            &format!("{BASE}/users/{{id}}"),
            get(show_user).put(update_user).delete(remove_user),
        )
}

/// List all users registered under the tenant owning the JWT
async fn list_users(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    query: QueryPairs,
) -> Result<Json<Vec<wire::User>>, ApiError> {
    let users = user::list(&useradm.0, &caller.tenant, &filter(&query)?).await?;
    Ok(Json(users.into_iter().map(view).collect()))
}

/// Create a new user under the tenant owning the JWT
async fn create_user(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Json(new): Json<wire::UserNew>,
) -> Result<Response, ApiError> {
    let secret = match (new.password, &new.login) {
        (Some(password), _) if !new.send_reset_password => Secret::Password(password),
        (None, Some(login)) if !login.is_empty() && !new.send_reset_password => Secret::None,
        // The user sets a password by mail.
        _ => Secret::Invite,
    };
    let new = NewUser {
        id: None,
        email: new.email,
        secret,
        login: new.login,
        roles: new.roles,
        propagate: true,
    };
    let id = user::create(&useradm.0, &caller.tenant, Some(&caller), new).await?;
    let location = HeaderValue::from_str(&format!("users/{id}")).map_err(ApiError::internal)?;
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// Get user information
async fn show_user(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(id): Path<String>,
) -> Result<Json<wire::User>, ApiError> {
    let id = me(&id, &caller.user_id);
    Ok(Json(view(user::get(&useradm.0, &caller.tenant, id).await?)))
}

/// Update user information
async fn update_user(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(id): Path<String>,
    Json(change): Json<wire::UserUpdate>,
) -> Result<StatusCode, ApiError> {
    let id = me(&id, &caller.user_id);
    let change = Change {
        email: change.email,
        password: change.password,
        login: change.login,
        roles: change.roles,
        current_password: change.current_password,
    };
    user::update(&useradm.0, &caller, id, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove user from the system
async fn remove_user(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = me(&id, &caller.user_id);
    user::delete(&useradm.0, &caller.tenant, Some(&caller), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
