//! HTTP: extract, call the domain, answer. One handler an operation, named after it.

pub mod device;
pub mod internal;
pub mod management;

use ambidex_kit::{ApiError, RawBody};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::DevauthError;

impl From<DevauthError> for ApiError {
    fn from(error: DevauthError) -> ApiError {
        let text = error.to_string();
        match error {
            DevauthError::NotAdmitted | DevauthError::NoPlace | DevauthError::TenantRefused(_) => {
                ApiError::unauthorized(text)
            }
            DevauthError::DeviceNotFound
            | DevauthError::AuthSetNotFound
            | DevauthError::TokenNotFound => ApiError::not_found(text),
            DevauthError::AuthSetOfAnotherDevice | DevauthError::TransitionRefused => {
                ApiError::bad_request(text)
            }
            DevauthError::LimitReached => ApiError::unprocessable(text),
            DevauthError::DeviceExists(_) => ApiError::conflict(text),
            DevauthError::Contended
            | DevauthError::Tenants(_)
            | DevauthError::Neighbour(_)
            | DevauthError::Token(_) => ApiError::internal(error),
            DevauthError::Database(error) => error.into(),
        }
    }
}

/// Reads a body that must be a JSON object: a list would pass for a structure without members.
fn object<T: DeserializeOwned>(body: &RawBody, prefix: &str) -> Result<T, ApiError> {
    if body
        .0
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_some_and(|byte| *byte != b'{')
    {
        // Whatever is wrong with the text comes first: it is the more precise reason.
        body.json::<IgnoredAny>(prefix)?;
        return Err(ApiError::bad_request(format!(
            "{prefix}: must be a JSON object"
        )));
    }
    body.json(prefix)
}
