//! The HTTP side: extract, call the domain, answer. One function an operation, named by its upstream
//! operation id.

mod artifacts;
mod configuration;
mod deployments;
mod device;
mod download;
mod history;
mod id;
mod internal;
mod origin;
mod releases;
mod streamed;
mod upload;
mod uploads;

use ambidex_kit::ApiError;
use axum::Router;

use crate::Context;
use crate::error::Error;

/// Base path of the management API, version 1.
const MANAGEMENT_V1: &str = "/api/management/v1/deployments";
/// Base path of the management API, version 2.
const MANAGEMENT_V2: &str = "/api/management/v2/deployments";

pub fn public(context: Context) -> Router {
    Router::new()
        .merge(device::routes())
        .merge(download::routes())
        .merge(deployments::routes())
        .merge(history::routes())
        .merge(artifacts::routes())
        .merge(releases::routes())
        .merge(uploads::routes())
        .merge(configuration::routes())
        .with_state(context)
}

pub fn internal(context: Context) -> Router {
    internal::routes().with_state(context)
}

pub use internal::health;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(text) => Self::bad_request(text),
            Error::Forbidden(text) => Self::forbidden(text),
            Error::NotFound(text) => Self::not_found(text),
            Error::Conflict(text) => Self::conflict(text),
            Error::Unprocessable(text) => Self::unprocessable(text),
            Error::TooLarge(text) => Self::too_large(text),
            error @ (Error::Db(_) | Error::Blob(_) | Error::Port(_) | Error::Internal(_)) => {
                Self::internal(error)
            }
        }
    }
}
