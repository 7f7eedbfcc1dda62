//! HTTP: extract, call the domain, respond. One function an operation, named by its operation id.

pub(crate) mod device;
pub(crate) mod internal;
pub(crate) mod management;

use ambidex_kit::{ApiError, RawBody};
use ambidex_wire::management::deviceconfig::Configuration;
use serde_json::Value;

use crate::domain::configuration;

/// Add-on that the public operations belong to.
const ADDON: &str = "configure";

/// A body that is an object of texts.
fn settings(body: &RawBody) -> Result<Configuration, ApiError> {
    // `null` would pass for an empty object otherwise.
    match body.json("malformed request body")? {
        Value::Object(members) => Ok(configuration::parse(members)?),
        _ => Err(ApiError::bad_request(
            "malformed request body: expected an object",
        )),
    }
}
