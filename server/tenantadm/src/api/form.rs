//! Bodies that come as JSON or as a form.

use ambidex_kit::{ApiError, RawBody, decode_json};
use ambidex_wire::management::tenantadm::SignUp;
use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;

/// A sign-up in either form; browsers and scripts send both, some without a content type.
pub(super) struct SignUpBody(pub(super) SignUp);

impl<S: Sync> FromRequest<S> for SignUpBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<SignUpBody, ApiError> {
        let json = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let body = RawBody::from_request(request, state).await?;
        if json || body.0.trim_ascii_start().starts_with(b"{") {
            return decode_json(&body.0, "failed to decode request body").map(SignUpBody);
        }
        Ok(SignUpBody(form(&body.0)?))
    }
}

fn form(bytes: &[u8]) -> Result<SignUp, ApiError> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(ApiError::bad_request("failed to decode request body"));
    }
    let mut asked = SignUp::default();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        let value = value.into_owned();
        match &*name {
            "organization" => asked.organization = value,
            "email" => asked.email = value,
            "password" => asked.password = Some(value),
            "g-recaptcha-response" => asked.recaptcha = Some(value),
            "name" => asked.name = Some(value),
            "plan" => asked.plan = Some(value),
            _ => {}
        }
    }
    Ok(asked)
}
