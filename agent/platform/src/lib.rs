//! Every door from the agent to the operating system.
//!
//! Owns: durable files, records and half received files, files that nothing leads out of, child processes, terminals, users,
//! FIFOs, block devices, mounts, clocks, a timer, the reboot command, memory, name services and the lock of the state directory. Deliberately knows nothing of updates,
//! servers or bootloaders. Every crate of the agent may call it; it calls none of them.
//!
//! Error texts are complete: `Display` already carries the cause, and `source()` is empty, so a
//! caller prints an error once with `{}` and loses nothing.

pub mod account;
pub mod block;
pub mod clock;
pub mod confined;
pub mod fifo;
pub mod fs;
pub mod lock;
pub mod memory;
pub mod mounts;
pub mod names;
pub mod process;
pub mod pty;
pub mod reboot;
pub mod record;
pub mod spool;
pub mod timer;
