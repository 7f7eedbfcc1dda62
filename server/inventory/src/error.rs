//! What can go wrong in the inventory, by what the caller can do about it.

use ambidex_db::DbError;

use crate::domain::attribute::AttributeError;
use crate::domain::predicate::PredicateError;

/// An operation failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("Device not found")]
    DeviceNotFound,
    #[error("group not found")]
    GroupNotFound,
    #[error("filter not found")]
    FilterNotFound,
    #[error("a filter with the same name already exists")]
    FilterExists,
    /// The one device of a status update has a newer status already.
    #[error("write conflict")]
    Stale,
    /// The device has left the fleet; what arrives about it is dropped.
    #[error("the device was decommissioned")]
    Gone,
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    #[error("the number of attributes in the scope is above the limit")]
    TooManyAttributes,
    #[error(transparent)]
    Predicate(#[from] PredicateError),
    /// Any other mistake in a request; the text is for the client.
    #[error("{0}")]
    Invalid(String),
    /// The device's tags are not those that the client has seen.
    #[error("ETag does not match")]
    TagsChanged,
    /// Other writers were faster several times in a row.
    #[error("too many changes to the device at once, try again")]
    Contended,
    #[error("{0}")]
    Database(#[from] DbError),
}
