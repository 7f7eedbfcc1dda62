use ambidex_db::DbError;
use ambidex_kit::ApiError;

use crate::ports::PortError;

/// Why something was not done, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum AuditlogsError {
    /// This is not an event.
    #[error("{0}")]
    Invalid(String),
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// A neighbour service.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl From<AuditlogsError> for ApiError {
    fn from(error: AuditlogsError) -> ApiError {
        match error {
            AuditlogsError::Invalid(text) => ApiError::bad_request(text),
            AuditlogsError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}
