//! What can go wrong in device authentication, by what the caller can do about it.

use ambidex_db::DbError;
use ambidex_wire::management::devauth::Device;

/// An operation failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DevauthError {
    /// The device is known but not let in (yet).
    #[error("dev auth: unauthorized")]
    NotAdmitted,
    /// The device would be let in, were there a place left.
    #[error("unauthorized")]
    NoPlace,
    /// The tenant token is missing or was refused; the text is for the device.
    #[error("{0}")]
    TenantRefused(String),
    #[error("device not found")]
    DeviceNotFound,
    #[error("authorization set not found")]
    AuthSetNotFound,
    #[error("dev auth: dev ID and auth ID mismatch")]
    AuthSetOfAnotherDevice,
    /// No operator may ask for this change.
    #[error("dev auth: bad request")]
    TransitionRefused,
    #[error("maximum number of accepted devices reached")]
    LimitReached,
    /// The identity is taken.
    #[error("device already exists")]
    DeviceExists(Box<Device>),
    #[error("token not found")]
    TokenNotFound,
    /// Other writers were faster several times in a row.
    #[error("too many changes to the device at once, try again")]
    Contended,
    #[error("cannot ask for the tenant: {0}")]
    Tenants(String),
    #[error("a neighbouring service failed: {0}")]
    Neighbour(String),
    #[error("cannot issue a token: {0}")]
    Token(String),
    #[error("{0}")]
    Database(#[from] DbError),
}
