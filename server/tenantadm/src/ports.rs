//! What this service needs from its neighbours. Implemented by `server/main`.

use ambidex_kit::BoxFuture;
use serde_json::{Map, Value};

/// A neighbour that could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// A user that may be created: checked, the password hashed.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedUser {
    /// The id that the user will have.
    pub id: String,
    /// Login name as it is stored.
    pub email: String,
    /// `None`: only other ways to log in.
    pub password_hash: Option<String>,
    /// Other ways to log in: provider to id.
    pub login: Option<Map<String, Value>>,
}

/// Why a user cannot be.
#[derive(Debug, thiserror::Error)]
pub enum UserRefusal {
    /// The address or the password is not acceptable; the text is for the client.
    #[error("{0}")]
    Invalid(String),
    /// The address belongs to another user.
    #[error("user with a given email already exists")]
    Taken,
    /// The neighbour could not answer.
    #[error(transparent)]
    Failed(#[from] PortError),
}

/// The accounts of a tenant's users and devices.
pub trait Accounts: Send + Sync {
    /// Checks address and password of a user to be, and hashes the password. Nothing is stored.
    fn prepare_user<'a>(
        &'a self,
        email: &'a str,
        password: Option<&'a str>,
    ) -> BoxFuture<'a, Result<PreparedUser, UserRefusal>>;
    /// Creates a prepared user. Safe to repeat.
    fn create_user<'a>(
        &'a self,
        tenant: &'a str,
        user: &'a PreparedUser,
    ) -> BoxFuture<'a, Result<(), UserRefusal>>;
    /// Removes all users of a tenant. Safe to repeat.
    fn remove_users<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Result<(), PortError>>;
    /// Ends all sessions of users and all tokens of devices: their claims are no longer true. Safe to
    /// repeat.
    fn revoke_tokens<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Result<(), PortError>>;
    /// Sets how many devices may be accepted; 0 is unlimited. Safe to repeat.
    fn limit_devices<'a>(
        &'a self,
        tenant: &'a str,
        devices: u64,
    ) -> BoxFuture<'a, Result<(), PortError>>;
}
