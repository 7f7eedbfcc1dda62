use ambidex_access::{PasswordError, TokenError};
use ambidex_db::DbError;
use ambidex_kit::ApiError;

use crate::ports::PortError;

/// Why something was not done, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum UseradmError {
    /// The input has the wrong form.
    #[error("{0}")]
    Invalid(String),
    /// The input is well formed but not acceptable: a taken address, a short password.
    #[error("{0}")]
    Unprocessable(String),
    /// Who asks is not who he says, or may not enter.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// Too many logins at once.
    #[error("{0}")]
    Busy(String),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A neighbour service.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A token could not be made.
    #[error("cannot make a token: {0}")]
    Token(#[from] TokenError),
    /// A password could not be hashed.
    #[error("{0}")]
    Password(String),
}

impl From<PasswordError> for UseradmError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => UseradmError::Busy(error.to_string()),
            PasswordError::Hash(_) => UseradmError::Password(error.to_string()),
        }
    }
}

impl From<UseradmError> for ApiError {
    fn from(error: UseradmError) -> ApiError {
        match error {
            UseradmError::Invalid(text) => ApiError::bad_request(text),
            UseradmError::Unprocessable(text) => ApiError::unprocessable(text),
            UseradmError::Unauthorized(text) => ApiError::unauthorized(text),
            UseradmError::NotFound(text) => ApiError::not_found(text),
            UseradmError::Busy(text) => ApiError::too_many_requests(text),
            UseradmError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}
