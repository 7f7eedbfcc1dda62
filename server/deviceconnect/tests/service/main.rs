//! The device connection over real sockets, with the real database, bus, keys and extractors.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod device;
mod files;
mod instances;
mod internal;
mod limits;
mod recordings;
mod rig;
mod sessions;
