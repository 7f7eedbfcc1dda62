//! The update loop on boards: flows that run on emulated and on real ones, the campaign of all of them, and the demo.

pub mod campaign;
pub mod demo;
pub mod dut;
pub mod flows;
pub mod hardware;
mod progress;
pub mod results;
pub mod rig;

pub use rig::{Rig, Target, UPDATE_LIMIT};
