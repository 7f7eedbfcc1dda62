//! What this service needs from its neighbours. Implemented by `server/main`.

use ambidex_kit::BoxFuture;

/// A neighbour that could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// Who is behind an id. `None` when there is nobody (any more).
pub trait Directory: Send + Sync {
    /// Login name of a user.
    fn user_email<'a>(
        &'a self,
        tenant: &'a str,
        user: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>>;
    /// Identity of a device, as JSON text.
    fn device_identity<'a>(
        &'a self,
        tenant: &'a str,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>>;
}
