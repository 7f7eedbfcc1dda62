use ambidex_bus::BusError;
use ambidex_db::DbError;
use ambidex_kit::ApiError;
use http::StatusCode;

use crate::ports::PortError;

/// Why something was not done, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum DeviceconnectError {
    /// The input has the wrong form.
    #[error("{0}")]
    Invalid(String),
    /// Who asks may not do it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// The device is known but not connected.
    #[error("device not connected")]
    NotConnected,
    /// There are as many sessions, or connections, as there may be.
    #[error("{0}")]
    Busy(String),
    /// The device answered with an error; the number is the status that fits it.
    #[error("{1}")]
    Device(u16, String),
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// The bus between instances.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A neighbour service.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A temporary file.
    #[error("cannot keep an upload: {0}")]
    Spool(#[from] std::io::Error),
}

impl From<DeviceconnectError> for ApiError {
    fn from(error: DeviceconnectError) -> ApiError {
        match error {
            DeviceconnectError::Invalid(text) => ApiError::bad_request(text),
            DeviceconnectError::Forbidden(text) => ApiError::forbidden(text),
            DeviceconnectError::NotFound(text) => ApiError::not_found(text),
            DeviceconnectError::NotConnected => ApiError::conflict("device not connected"),
            DeviceconnectError::Busy(text) => ApiError::too_many_requests(text),
            DeviceconnectError::Device(status, text) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                ApiError::new(status, text)
            }
            DeviceconnectError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}
