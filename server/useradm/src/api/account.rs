//! What users do for themselves: the second factor, personal access tokens.

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, RawBody, rfc3339};
use ambidex_wire::management::useradm as wire;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use http::StatusCode;

use super::sessions::jwt;
use super::{BASE, me};
use crate::Useradm;
use crate::domain::{personal_token, two_factor};

pub(crate) fn routes() -> Router<Useradm> {
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path("/2faqr"), get(get_2fa_qr_code))
        .route(&path("/2faverify"), put(verify_the_2fa_token))
        .route(&path("/users/{id}/2fa/enable"), post(enable_2fa))
        .route(&path("/users/{id}/2fa/disable"), post(disable_2fa))
        .route(
            &path("/settings/tokens"),
            get(list_personal_access_tokens).post(create_personal_access_token),
        )
        .route(
            &path("/settings/tokens/{id}"),
            delete(revoke_personal_access_token),
        )
}

/// Get 2FA QR code
async fn get_2fa_qr_code(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<Json<wire::TwoFactorQr>, ApiError> {
    Ok(Json(wire::TwoFactorQr {
        qr: two_factor::picture(&useradm.0, &caller).await?,
    }))
}

/// Verify the 2FA token
async fn verify_the_2fa_token(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let body: wire::TwoFactorCode = body.json("failed to decode request body")?;
    let code = body.token2fa.filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| ApiError::bad_request("token2fa: cannot be blank."))?;
    two_factor::confirm(&useradm.0, &caller, &code).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn switch(
    useradm: &Useradm,
    caller: &UserIdentity,
    id: &str,
    on: bool,
) -> Result<StatusCode, ApiError> {
    // The factor is in the user's own hand: switching off another's would take it away, switching it on would show
    // nobody the picture.
    if me(id, &caller.user_id) != caller.user_id {
        return Err(ApiError::forbidden(
            "two-factor authentication can be switched by its user only",
        ));
    }
    two_factor::switch(&useradm.0, caller, on).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Enable 2FA for the user
async fn enable_2fa(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    switch(&useradm, &caller, &id, true).await
}

/// Disable 2FA for the user
async fn disable_2fa(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    switch(&useradm, &caller, &id, false).await
}

/// Get user Personal Access Tokens
async fn list_personal_access_tokens(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<Json<Vec<wire::PersonalToken>>, ApiError> {
    let tokens = personal_token::list(&useradm.0, &caller).await?;
    let show = |token: crate::store::token::Personal| wire::PersonalToken {
        id: token.id,
        name: token.name,
        last_used: token.last_used_ms.map(rfc3339),
        expiration_date: token.expires_ms.map(rfc3339),
        created_ts: rfc3339(token.created_ms),
    };
    Ok(Json(tokens.into_iter().map(show).collect()))
}

/// Create new Personal Access Token
async fn create_personal_access_token(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<Response, ApiError> {
    let new = body.json("cannot parse request body as json")?;
    Ok(jwt(personal_token::issue(&useradm.0, &caller, new).await?))
}

/// Revoke Personal Access Token
async fn revoke_personal_access_token(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    personal_token::revoke(&useradm.0, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
