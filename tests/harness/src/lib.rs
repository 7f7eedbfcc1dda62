//! Starts the real programs for tests and for the demo: the server, the agent on a QEMU board, a fault
//! proxy between them, and a client for the management API.
//!
//! It deliberately contains no stand-in for a program of ours: a test that uses it runs what ships. (The firmware of a
//! Raspberry Pi, [`board::Firmware`], is not ours, and cannot be had.)
//! Used by the crates under `tests/`; nothing that ships depends on it.
//!
//! Environment:
//! - `AMBIDEX_SERVER_BIN`, `AMBIDEX_AGENT_BIN`, `AMBIDEX_CLI_BIN`, `AMBIDEX_XTASK_BIN`: use these binaries instead of building
//! - `AMBIDEX_S3_BIN`, `AMBIDEX_SCHEMATHESIS_BIN`: the Python tools nanio and schemathesis, if not where
//!   `cargo xtask test` installs them
//! - `AMBIDEX_BOARD_CACHE`: where board images are kept (default `target/boards`)
//! - `AMBIDEX_REQUIRE_BOARDS=1`: a board that cannot be had fails the test instead of skipping it
//! - `AMBIDEX_SKIP_LOG`: a file that receives one line per skipped test
//! - `AMBIDEX_KEEP=1`: keep scratch folders of passed tests too

pub mod api;
pub mod artifact;
pub mod binaries;
pub mod board;
mod child;
pub mod cross;
pub mod device;
pub mod nats;
pub mod proxy;
pub mod s3;
pub mod scratch;
pub mod server;
pub mod skip;
pub mod tls;
pub mod wait;

pub use api::{Api, http_client};
pub use board::{Board, Lab};
pub use device::Device;
pub use nats::Nats;
pub use proxy::Proxy;
pub use s3::S3;
pub use scratch::{Scratch, flow};
pub use server::Server;
pub use skip::skip;
pub use wait::wait_for;
