//! The update loop on QEMU boards: what the flows in `tests/` share, and the demo.

pub mod demo;
mod fleet;
pub mod hardware;
mod progress;

pub use fleet::{Fleet, UPDATE_LIMIT};
