//! HTTP: extract, call the domain, answer. One handler an operation, named after it.

pub mod device;
pub mod devices;
pub mod filters;
pub mod groups;
pub mod internal;

use ambidex_kit::{ApiError, RawBody};
use http::StatusCode;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::domain::attribute::{NewAttribute, read_attributes};
use crate::error::InventoryError;

impl From<InventoryError> for ApiError {
    fn from(error: InventoryError) -> ApiError {
        let text = error.to_string();
        match error {
            InventoryError::DeviceNotFound
            | InventoryError::GroupNotFound
            | InventoryError::FilterNotFound => ApiError::not_found(text),
            InventoryError::FilterExists | InventoryError::Stale | InventoryError::Gone => {
                ApiError::conflict(text)
            }
            InventoryError::Attribute(_)
            | InventoryError::TooManyAttributes
            | InventoryError::Predicate(_)
            | InventoryError::Invalid(_) => ApiError::bad_request(text),
            InventoryError::TagsChanged => ApiError::new(StatusCode::PRECONDITION_FAILED, text),
            InventoryError::Database(error) => error.into(),
            InventoryError::Contended => ApiError::internal(error),
        }
    }
}

/// The list of attributes in a body.
fn attributes(body: &RawBody) -> Result<Vec<NewAttribute>, ApiError> {
    const PREFIX: &str = "failed to decode request body";
    if body.0.is_empty() {
        return Err(ApiError::bad_request(format!(
            "{PREFIX}: JSON payload is empty"
        )));
    }
    let value: Value = body.json(PREFIX)?;
    read_attributes(&value).map_err(|error| ApiError::bad_request(error.to_string()))
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
