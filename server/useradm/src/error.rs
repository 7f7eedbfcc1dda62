use ambidex_access::{PasswordError, SealError, TokenError};
use ambidex_db::DbError;
use ambidex_kit::ApiError;
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};

use crate::ports::PortError;

/// The text of every refusal for want of a plan (specification: 403).
pub(crate) const NOT_IN_PLAN: &str = "Feature not available in your Plan.";
/// The text of every refusal for want of a role (reference: user administration 4.1).
pub(crate) const FORBIDDEN: &str = "forbidden by role-based access control";

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
    /// Who asks may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// There is such a thing already.
    #[error("{0}")]
    Exists(&'static str),
    /// Somebody else changed it since the caller read it.
    #[error("ETag does not match")]
    Changed,
    /// Too many logins at once.
    #[error("{0}")]
    Busy(String),
    /// Too many attempts.
    #[error("too many attempts: try again in {retry_after_s} seconds")]
    TooMany {
        /// Seconds until the next attempt counts.
        retry_after_s: u64,
    },
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// A neighbour service.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A token could not be made.
    #[error("cannot make a token: {0}")]
    Token(#[from] TokenError),
    /// A sealed secret cannot be read.
    #[error("two-factor authentication: {0}")]
    Seal(#[from] SealError),
    /// A password could not be hashed, a picture not be drawn.
    #[error("{0}")]
    Internal(String),
}

impl From<PasswordError> for UseradmError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => UseradmError::Busy(error.to_string()),
            PasswordError::Hash(_) => UseradmError::Internal(error.to_string()),
        }
    }
}

impl From<UseradmError> for ApiError {
    fn from(error: UseradmError) -> ApiError {
        let text = error.to_string();
        match error {
            UseradmError::Invalid(text) => ApiError::bad_request(text),
            UseradmError::Unprocessable(text) => ApiError::unprocessable(text),
            UseradmError::Unauthorized(text) => ApiError::unauthorized(text),
            UseradmError::Forbidden(text) => ApiError::forbidden(text),
            UseradmError::NotFound(text) => ApiError::not_found(text),
            UseradmError::Exists(text) => ApiError::conflict(text),
            UseradmError::Changed => ApiError::new(StatusCode::PRECONDITION_FAILED, text),
            UseradmError::Busy(text) => {
                ApiError::too_many_requests(text).header(RETRY_AFTER, HeaderValue::from_static("1"))
            }
            UseradmError::TooMany { retry_after_s } => ApiError::too_many_requests(text)
                .header(RETRY_AFTER, HeaderValue::from(retry_after_s)),
            UseradmError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}

/// Why a request with a user's token is not let in.
#[derive(Debug, thiserror::Error)]
pub enum RequestDenied {
    /// The token does not count any more.
    #[error("unauthorized")]
    Revoked,
    /// The user's roles do not open it.
    #[error("{FORBIDDEN}")]
    Forbidden,
    /// The check itself failed.
    #[error(transparent)]
    Failed(#[from] UseradmError),
}

impl From<DbError> for RequestDenied {
    fn from(error: DbError) -> Self {
        RequestDenied::Failed(error.into())
    }
}
