//! `/settings`, of the tenant and of the caller.

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, RawBody};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH};
use http::{HeaderMap, StatusCode};

use super::BASE;
use crate::Useradm;
use crate::domain::settings::{self, Whose};

pub(crate) fn routes() -> Router<Useradm> {
    Router::new()
        .route(
            &format!("{BASE}/settings"),
            get(show_user_settings).post(update_user_settings),
        )
        .route(
            &format!("{BASE}/settings/me"),
            get(show_my_user_settings).post(update_my_user_settings),
        )
}

async fn show(
    useradm: &Useradm,
    caller: &UserIdentity,
    whose: Whose,
) -> Result<Response, ApiError> {
    let (text, etag) = settings::get(&useradm.0, caller, whose).await?;
    let content_type = HeaderValue::from_static("application/json");
    let mut response = ([(CONTENT_TYPE, content_type)], text).into_response();
    if let Some(etag) = etag {
        let value = HeaderValue::from_str(&format!("\"{etag}\"")).map_err(ApiError::internal)?;
        response.headers_mut().insert(ETAG, value);
    }
    Ok(response)
}

async fn update(
    useradm: &Useradm,
    caller: &UserIdentity,
    whose: Whose,
    headers: &HeaderMap,
    body: &RawBody,
) -> Result<StatusCode, ApiError> {
    body.expect_json()?;
    let seen = seen(headers)?;
    settings::put(&useradm.0, caller, whose, &body.0, seen).await?;
    Ok(StatusCode::CREATED)
}

/// The entity tag of `If-Match`, quoted or (as some clients send it) not; `*` asks for nothing.
fn seen(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| ApiError::bad_request("If-Match is not an entity tag"))?
        .trim();
    Ok(match text {
        "" | "*" => None,
        text => Some(text.trim_start_matches("W/").trim_matches('"')),
    })
}

/// Get user settings
async fn show_user_settings(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<Response, ApiError> {
    show(&useradm, &caller, Whose::Tenant).await
}

/// Create new or update existing user settings
async fn update_user_settings(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    update(&useradm, &caller, Whose::Tenant, &headers, &body).await
}

/// Get user settings for the current user
async fn show_my_user_settings(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<Response, ApiError> {
    show(&useradm, &caller, Whose::Own).await
}

/// Set user settings for the current user
async fn update_my_user_settings(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    update(&useradm, &caller, Whose::Own, &headers, &body).await
}
