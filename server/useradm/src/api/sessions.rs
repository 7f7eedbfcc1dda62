//! Logging in and out, and what leads to it: `/auth/…`, in the order of the specification.

use ambidex_access::{Plan, UserAuth, basic_credentials};
use ambidex_kit::{ApiError, RawBody, decode_json};
use ambidex_wire::management::useradm as wire;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::BASE;
use super::address::ClientAddress;
use crate::Useradm;
use crate::domain::mail::{self, Purpose};
use crate::domain::session;

pub(crate) fn routes() -> Router<Useradm> {
    let path = |tail: &str| format!("{BASE}/auth{tail}");
    Router::new()
        .route(&path("/login"), post(login))
        .route(&path("/logout"), post(logout))
        .route(
            &path("/password-reset/start"),
            post(initiate_password_reset_request),
        )
        .route(
            &path("/password-reset/complete"),
            post(complete_password_reset_request),
        )
        .route(
            &path("/verify-email/start"),
            post(initiate_email_verification),
        )
        .route(
            &path("/verify-email/complete"),
            post(complete_email_verification),
        )
        .route(&path("/plan-verify"), post(verify_plan))
}

pub(super) fn jwt(token: String) -> Response {
    let content_type = HeaderValue::from_static("application/jwt");
    ([(CONTENT_TYPE, content_type)], token).into_response()
}

/// Log in to the server
async fn login(
    State(useradm): State<Useradm>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, ApiError> {
    let (email, password) = basic_credentials(&headers)
        .ok_or_else(|| ApiError::unauthorized("invalid or missing auth header"))?;
    // Clients send no body at all, or one under any content type (reference: common conventions).
    let options = if body.0.trim_ascii().is_empty() {
        wire::Login::default()
    } else {
        decode_json(&body.0, "failed to decode request body")?
    };
    let attempt = session::Attempt {
        email: &email,
        password,
        code: options.token2fa.as_deref(),
        expires: !options.no_expiry,
        address: &address,
    };
    Ok(jwt(session::login(&useradm.0, attempt).await?))
}

/// Log out from the server
async fn logout(
    UserAuth(user): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<StatusCode, ApiError> {
    session::logout(&useradm.0, &user).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn start(
    useradm: &Useradm,
    body: &RawBody,
    purpose: Purpose,
    address: &str,
) -> Result<StatusCode, ApiError> {
    let request: wire::MailRequest = body.json("failed to decode request body")?;
    mail::start(&useradm.0, &request.email, purpose, address).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The secret under either of its names.
fn secret(body: &RawBody) -> Result<(String, Option<String>), ApiError> {
    let completion: wire::MailCompletion = body.json("failed to decode request body")?;
    let secret = completion.secret.or(completion.secret_hash);
    let secret = secret.filter(|secret| !secret.is_empty());
    let secret = secret.ok_or_else(|| ApiError::bad_request("secret: cannot be blank."))?;
    Ok((secret, completion.password))
}

/// Initiate a Password Reset request based on the provided email address
async fn initiate_password_reset_request(
    State(useradm): State<Useradm>,
    ClientAddress(address): ClientAddress,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    start(&useradm, &body, Purpose::Reset, &address).await
}

/// Complete a Password Reset request
async fn complete_password_reset_request(
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let (secret, password) = secret(&body)?;
    let password = password.ok_or_else(|| ApiError::bad_request("password: cannot be blank."))?;
    mail::complete_password(&useradm.0, &secret, password).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Start the verification of an email address
async fn initiate_email_verification(
    State(useradm): State<Useradm>,
    ClientAddress(address): ClientAddress,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    start(&useradm, &body, Purpose::Verify, &address).await
}

/// Complete the verification of an email address
async fn complete_email_verification(
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let (secret, _) = secret(&body)?;
    mail::complete_address(&useradm.0, &secret).await?;
    Ok(StatusCode::NO_CONTENT)
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
