//! Device authentication as devices call it.

use ambidex_kit::{ApiError, RawBody};
use ambidex_wire::paths;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use super::object;
use crate::Devauth;
use crate::domain::admission::Admission;
use crate::domain::identity::Identity;
use crate::domain::public_key::PublicKey;

pub fn routes() -> Router<Devauth> {
    Router::new().route(paths::AUTH_REQUESTS, post(authenticate_device))
}

#[derive(Deserialize)]
struct AuthRequestBody {
    #[serde(default)]
    id_data: Option<String>,
    #[serde(default)]
    pubkey: Option<String>,
    #[serde(default)]
    tenant_token: Option<String>,
}

impl AuthRequestBody {
    fn parse(self) -> Result<Admission, ApiError> {
        let invalid =
            |reason: String| ApiError::bad_request(format!("invalid auth request: {reason}"));
        let text = |member: Option<String>, name: &str| {
            member
                .filter(|text| !text.is_empty())
                .ok_or_else(|| invalid(format!("{name} must be provided")))
        };
        let id_data = text(self.id_data, "id_data")?;
        let pubkey = text(self.pubkey, "pubkey")?;
        let key = PublicKey::parse(&pubkey).map_err(|error| invalid(error.to_string()))?;
        let identity = Identity::parse(&id_data).map_err(|error| invalid(error.to_string()))?;
        Ok(Admission {
            identity,
            key,
            tenant_token: self.tenant_token,
        })
    }
}

/// Submit an authentication request.
async fn authenticate_device(
    State(devauth): State<Devauth>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<([(http::HeaderName, &'static str); 1], String), ApiError> {
    let request = object::<AuthRequestBody>(&body, "failed to decode auth request")?.parse()?;
    let signature = headers
        .get(paths::SIGNATURE_HEADER)
        .filter(|signature| !signature.is_empty())
        .ok_or_else(|| ApiError::bad_request("missing request signature header"))?;
    let genuine = signature
        .to_str()
        .is_ok_and(|signature| request.key.verifies_base64(&body.0, signature));
    if !genuine {
        return Err(ApiError::unauthorized("signature verification failed"));
    }
    let token = devauth.admit(&request).await?;
    Ok(([(CONTENT_TYPE, "application/jwt")], token))
}
