//! The HTTP kit of every service: errors, request ids, paging, the accept loop and TLS.
//!
//! A service's `api` modules use it so that all of them answer alike; `server/main` uses [`front`] and
//! [`serve`] once for each listener. The kit knows no service, no token and no tenant.

mod address_limit;
mod body;
mod clock;
mod error;
mod front;
mod leftover;
pub mod metrics;
mod page;
mod request_id;
mod serve;
mod windows;

pub use address_limit::{AddressLimit, Network};
pub use body::{BODY_BYTES_MAX, Json, QueryPairs, RawBody, decode_json};
pub use clock::{Clock, new_id, rfc3339};
pub use error::ApiError;
pub use front::{access_log, front};
pub use page::{Page, link_headers, total_count};
pub use request_id::{REQUEST_ID_HEADER, current_request_id, note_tenant};
pub use serve::{Limits, Peer, Shutdown, Tls, TlsError, Upgraded, Upgrades, serve, stop_signal};
pub use windows::{Exceeded, Windows};

/// The future that a port's method returns.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
