//! Device configuration over its routers, with the real database, keys and extractors.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod configuration;
mod deploy;
mod internal;
mod rig;
