//! `/api/management/v1/useradm`, in the order of the specification.

use ambidex_access::{UserAuth, basic_credentials};
use ambidex_kit::{ApiError, Json, QueryPairs, RawBody};
use ambidex_wire::management::useradm as wire;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::{filter, view};
use crate::domain::user::Change;
use crate::domain::{Plan, session, user};
use crate::{NewUser, Secret, Useradm, store};

pub(crate) fn routes(useradm: Useradm) -> Router {
    const BASE: &str = "/api/management/v1/useradm";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path("/auth/login"), post(login))
        .route(&path("/auth/logout"), post(logout))
        .route(&path("/auth/plan-verify"), post(verify_plan))
        .route(&path("/users"), get(list_users).post(create_user))
        .route(
            &path("/users/{id}"),
            get(show_user).put(update_user).delete(remove_user),
        )
        .route(
            &path("/settings"),
            get(show_user_settings).post(update_user_settings),
        )
        .with_state(useradm)
}

/// Log in to the server
async fn login(
    State(useradm): State<Useradm>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, ApiError> {
    let (email, password) = basic_credentials(&headers)
        .ok_or_else(|| ApiError::unauthorized("invalid or missing auth header"))?;
    // Clients send no body at all, whatever content type they claim.
    let options = if body.0.trim_ascii().is_empty() {
        wire::Login::default()
    } else {
        body.json("failed to decode request body")?
    };
    let expires = !options.no_expiry;
    let token = session::login(&useradm.0, &email, password, expires).await?;
    Ok((
        [(CONTENT_TYPE, HeaderValue::from_static("application/jwt"))],
        token,
    )
        .into_response())
}

/// Log out from the server
async fn logout(
    UserAuth(user): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<StatusCode, ApiError> {
    session::logout(&useradm.0, &user).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Check if the user has given or superior pricing plan associated
async fn verify_plan(UserAuth(user): UserAuth, headers: HeaderMap) -> Result<StatusCode, ApiError> {
    let wanted = headers
        .get("x-mender-required-minimal-plan")
        .and_then(|value| Plan::parse(value.to_str().ok()?));
    match (wanted, Plan::parse(&user.plan)) {
        (Some(wanted), Some(has)) if has >= wanted => Ok(StatusCode::ACCEPTED),
        _ => Err(ApiError::forbidden(
            "the required minimal plan does not match the user plan",
        )),
    }
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
        (Some(password), _) => Secret::Password(password),
        (None, Some(login)) if !login.is_empty() => Secret::None,
        // The specification lets the password be missing: the user then sets one by mail. Without
        // mail such an account could never be used.
        (None, _) => {
            return Err(ApiError::unprocessable(
                "password: must be given, this server sends no mail to set it later",
            ));
        }
    };
    let id = useradm
        .create_user(
            &caller.tenant,
            NewUser {
                id: None,
                email: new.email,
                secret,
                login: new.login,
                roles: new.roles,
                propagate: true,
            },
        )
        .await?;
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
    user::delete(&useradm.0, &caller.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get user settings
async fn show_user_settings(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<Response, ApiError> {
    let value = store::settings::get(&useradm.0.db, caller.tenant.as_str()).await?;
    Ok((
        [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        value.unwrap_or_else(|| "{}".to_owned()),
    )
        .into_response())
}

/// Create new or update existing user settings
async fn update_user_settings(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let refused = || ApiError::bad_request("cannot parse request body as json");
    let parsed: Map<String, Value> = serde_json::from_slice(&body.0).map_err(|_| refused())?;
    // Kept as it came: user interfaces store things here that this server does not know.
    let text = std::str::from_utf8(&body.0).map_err(|_| refused())?;
    if two_factor_wanted(&parsed) {
        return Err(ApiError::forbidden(
            "two-factor authentication is not available on this server",
        ));
    }
    useradm
        .0
        .db
        .apply(vec![store::settings::put(caller.tenant.as_str(), text)])
        .await?;
    Ok(StatusCode::CREATED)
}

/// The per-user switch must not be stored as if it protected anything.
fn two_factor_wanted(settings: &Map<String, Value>) -> bool {
    settings
        .iter()
        .any(|(key, value)| key.ends_with("_2fa") && value == "enabled")
}

fn me<'a>(id: &'a str, caller: &'a str) -> &'a str {
    if id == "me" { caller } else { id }
}
