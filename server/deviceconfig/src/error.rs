use ambidex_db::DbError;
use ambidex_kit::ApiError;

use crate::ports::PortError;

/// Why something was not done, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum DeviceconfigError {
    /// The input has the wrong form.
    #[error("{0}")]
    Invalid(String),
    /// The user's roles or the tenant's plan do not reach this far.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such device.
    #[error("device does not exist")]
    NoDevice,
    /// The device is known already.
    #[error("device already exists")]
    Exists,
    /// Other writers were faster again and again.
    #[error("the configuration is being changed by too many at once")]
    Contended,
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// A neighbour service.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl From<DeviceconfigError> for ApiError {
    fn from(error: DeviceconfigError) -> ApiError {
        match error {
            DeviceconfigError::Invalid(text) => ApiError::bad_request(text),
            DeviceconfigError::Forbidden(text) => ApiError::forbidden(text),
            DeviceconfigError::NoDevice => ApiError::not_found(error.to_string()),
            DeviceconfigError::Exists => ApiError::conflict(error.to_string()),
            DeviceconfigError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}
