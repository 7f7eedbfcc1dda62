//! Holds the OpenAPI document that the server serves against the server itself.
//!
//! [`Document`] reads the document, [`World`] is a server with tenants, users and devices whose every call
//! is checked: the status must be documented for the operation and the body must fit its schema. The
//! world remembers which operation answered which status, so that a test can name what was never tried.

mod client;
mod device;
mod document;
mod world;

pub use client::{Answer, Body, Call};
pub use device::DeviceKey;
pub use document::{Document, Guard, Listener, Operation};
pub use world::{PASSWORD, Tenant, World, rows};
