use ambidex_access::TokenError;
use ambidex_db::DbError;
use ambidex_kit::ApiError;

use crate::ports::{PortError, UserRefusal};

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
    /// The state of things does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// This may not be done to this tenant, ever or at the moment.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// A neighbour service.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A token could not be made.
    #[error("cannot make a token: {0}")]
    Token(#[from] TokenError),
    /// Nobody could tell whether a person signs up.
    #[error("cannot check a reCAPTCHA answer: {0}")]
    Recaptcha(String),
}

impl From<UserRefusal> for TenantadmError {
    fn from(refusal: UserRefusal) -> TenantadmError {
        match refusal {
            UserRefusal::Invalid(text) => TenantadmError::Invalid(text),
            UserRefusal::Taken => {
                TenantadmError::Conflict("user with a given email already exists")
            }
            UserRefusal::Failed(error) => error.into(),
        }
    }
}

impl From<TenantadmError> for ApiError {
    fn from(error: TenantadmError) -> ApiError {
        match error {
            TenantadmError::Invalid(text) => ApiError::bad_request(text),
            TenantadmError::Unprocessable(text) => ApiError::unprocessable(text),
            TenantadmError::Unauthorized(text) => ApiError::unauthorized(text),
            TenantadmError::NotFound(text) => ApiError::not_found(text),
            TenantadmError::Conflict(text) => ApiError::conflict(text),
            TenantadmError::NotAllowed(text) => ApiError::method_not_allowed(text),
            TenantadmError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}
