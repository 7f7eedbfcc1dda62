//! HTTP: extract, call the domain, answer. One handler an operation, named after it.

pub mod device;
pub mod internal;
pub mod management;

use ambidex_kit::ApiError;

use crate::error::DevauthError;

impl From<DevauthError> for ApiError {
    fn from(error: DevauthError) -> ApiError {
        let text = error.to_string();
        match error {
            DevauthError::NotAdmitted | DevauthError::NoPlace | DevauthError::TenantRefused(_) => ApiError::unauthorized(text),
            DevauthError::DeviceNotFound | DevauthError::AuthSetNotFound | DevauthError::TokenNotFound => {
                ApiError::not_found(text)
            }
            DevauthError::AuthSetOfAnotherDevice | DevauthError::TransitionRefused => ApiError::bad_request(text),
            DevauthError::LimitReached => ApiError::unprocessable(text),
            DevauthError::DeviceExists(_) => ApiError::conflict(text),
            DevauthError::Contended
            | DevauthError::Tenants(_)
            | DevauthError::Neighbour(_)
            | DevauthError::Token(_)
            | DevauthError::Database(_) => ApiError::internal(error),
        }
    }
}
