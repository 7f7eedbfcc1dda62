//! Streams an artifact into a slot or an update module and switches the bootloader.
//!
//! Owns everything between the bytes of an artifact and a bootable or running update: the checks
//! before the first byte is written, the block sink, the update-module protocol, the boot
//! loaders and the A/B rules. Decides nothing about deployments: when a call is made, and what
//! its failure means, is the state machine's business. Talks to no server.
//!
//! ```text
//! artifact -> pipeline -> rootfs (block sink) | module (FIFOs or files) -> Handler
//! Handler: install, needs_reboot, reboot, verify_reboot, commit, rollback, ..., cleanup
//! ```

pub mod boot;
mod context;
mod handler;
mod module;
mod pipeline;
mod rootfs;
mod scripts;
pub mod sink;

pub use context::{CancelFlag, InstallContext, NoProgress, Progress, RootfsConfig};
pub use handler::{Handler, HandlerError, Reboot, is_rootfs};
pub use module::ModuleHandler;
// for the tests of its properties
#[doc(hidden)]
pub use module::answer;
pub use pipeline::{ArtifactFacts, FetchError, FetchOptions, Fetched, HeaderHook, fetch};
pub use rootfs::{RootfsHandler, Standing, check, keep_running, slot_digest, standing};
