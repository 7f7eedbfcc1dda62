//! The device agent: authenticates, installs updates, survives power cuts.
//!
//! Floors, top to bottom: `cli` and `daemon` decide what happens when; `deployment` carries one
//! deployment through its states; `api` is the one HTTP door and `auth`/`identity` its key and
//! token; `inventory` describes the device; `remote` keeps the websocket of remote access, whose
//! sessions `ambidex-connect` serves; `dbus` offers the login to add-ons; `config` is read once at
//! start. Everything that touches the operating system goes through `ambidex-platform`.
//!
//! What this crate never does: verify or unpack an artifact itself (`ambidex-install`), decide a
//! deployment's next state (`ambidex-machine`), keep the access token on disk.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests fail loudly"))]

pub mod api;
pub mod auth;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
#[cfg(feature = "dbus")]
mod dbus;
pub mod deployment;
pub mod identity;
pub mod inventory;
pub mod logbook;
#[cfg(feature = "remote-terminal")]
mod remote;

pub use api::{Link, LinkError, LinkErrorKind};
pub use config::Config;

/// The agent's version, as sent in `User-Agent` and in the inventory.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
