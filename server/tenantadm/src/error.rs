use ambidex_access::TokenError;
use ambidex_db::DbError;
use ambidex_kit::ApiError;

use crate::ports::PortError;

/// Why something was not done, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum TenantadmError {
    /// The input has the wrong form.
    #[error("{0}")]
    Invalid(String),
    /// The input is well formed but not acceptable.
    #[error("{0}")]
    Unprocessable(String),
    /// The tenant token does not open anything; the text is shown to the device.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A neighbour service.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A token could not be made.
    #[error("cannot make a token: {0}")]
    Token(#[from] TokenError),
}

impl From<TenantadmError> for ApiError {
    fn from(error: TenantadmError) -> ApiError {
        match error {
            TenantadmError::Invalid(text) => ApiError::bad_request(text),
            TenantadmError::Unprocessable(text) => ApiError::unprocessable(text),
            TenantadmError::Unauthorized(text) => ApiError::unauthorized(text),
            TenantadmError::NotFound(text) => ApiError::not_found(text),
            TenantadmError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}
