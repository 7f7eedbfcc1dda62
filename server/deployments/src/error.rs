//! What can go wrong in this service, by what the caller can do about it.

use ambidex_blob::BlobError;
use ambidex_db::DbError;

use crate::ports::PortError;

/// Why an operation of this service did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong: change it.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not do this, whatever the request says.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing, or it belongs to another tenant.
    #[error("{0}")]
    NotFound(&'static str),
    /// The state of something else forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The request is well-formed, but the state of the thing itself forbids it.
    #[error("{0}")]
    Unprocessable(String),
    /// More bytes than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// The database refused or failed.
    #[error("deployments storage failed")]
    Db(#[from] DbError),
    /// The artifact store refused or failed.
    #[error("artifact store failed")]
    Blob(#[from] BlobError),
    /// Another service did not answer.
    #[error("neighbour service failed")]
    Port(#[from] PortError),
    /// Something that a correct program never meets.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The usual text for a thing that is not there.
    pub const RESOURCE_NOT_FOUND: Self = Self::NotFound("Resource not found");

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// Whether somebody else changed a row between our read and our write: read again.
    pub(crate) fn is_lost_race(&self) -> bool {
        match self {
            Self::Db(DbError::Conflict { .. }) => true,
            // Two polls of one device joined the same deployment.
            Self::Db(DbError::UniqueViolation { constraint }) => {
                constraint.starts_with("deployment_devices")
            }
            _ => false,
        }
    }
}
