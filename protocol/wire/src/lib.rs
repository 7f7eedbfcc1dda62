//! The one definition of the JSON bodies, ids and paths that both ends of the wire share.
//!
//! Owns: REST bodies exchanged between devices, operators and the server, and the messages of the
//! device's websocket. Does not own: behaviour,
//! server-only views, storage. Everything here is plain data; input from the network ignores
//! unknown keys, and enums that upstream may extend carry an explicit `Other`.
//!
//! Source of the shapes: the API specification, operation by operation, and the reference facts
//! where the specification is silent.

#![forbid(unsafe_code)]

pub mod auth;
pub mod deployments;
pub mod error;
pub mod inventory;
pub mod management;
pub mod paths;
pub mod session;

pub use error::ErrorBody;
