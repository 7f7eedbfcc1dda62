//! What the engine needs from the server around it. Implemented by the server's wiring.

use ambidex_kit::BoxFuture;
use bytes::Bytes;
use http::{Request, Response};

/// The server's own services, as a step's request reaches them: without a socket.
pub trait Services: Send + Sync {
    /// Answers a request to one of the names in [`crate::Settings::own_hosts`]. `Err` is what a refused connection
    /// would be.
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, String>>;
}
