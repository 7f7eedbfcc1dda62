//! One deployment, from instructions to the final report, and the standalone verbs.
//!
//! Owns the durable state of the device ([`store`]: name, provides, the record of the deployment in
//! work, undelivered results), the state scripts ([`scripts`]), and the [`runner`] that executes what
//! `ambidex-machine` decides. Decides nothing about when to poll (that is `daemon`), nothing about the
//! next state (that is the machine), nothing about payloads (that is `ambidex-install`).

pub mod bootstrap;
mod conditions;
mod doubt;
mod fetching;
pub mod gates;
mod handling;
pub(crate) mod predecessor;
mod reports;
pub mod runner;
pub mod scripts;
mod spooling;
pub mod standalone;
pub mod stop;
pub mod store;
mod watch;

pub use gates::{Gates, UNWANTED, WishError};
pub(crate) use handling::rootfs as rootfs_config;
pub use reports::Delivery;
pub use runner::{Outcome, Runner};
pub use stop::Stop;
pub use store::Store;
