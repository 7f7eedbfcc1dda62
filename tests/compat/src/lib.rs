//! What the tests of this crate share: a device that is connected to the server, and terminals to run
//! programs in.
//!
//! [`Simulated`] stands in for a device where a test is about the user's tool: it serves the files, the
//! shell and the network of this machine, in the manner of the reference's agent or of ours, and fails
//! where a test wants it to. Tests name files of the machine and talk to [`Simulated::id`] only, so that
//! the real [`Agent`] on this machine can take its place.

mod agent;
mod pty;
mod simulated;

pub use agent::Agent;
pub use pty::{Pty, in_terminal};
pub use simulated::{Manner, Simulated, enrol};
