//! The rules of device authentication: pure decisions first, then read, decide, write.

pub mod admission;
pub mod audit;
mod change;
pub mod check_in;
pub mod device;
mod handover;
pub mod identity;
pub mod limit;
pub mod public_key;
pub mod status;
pub mod token;

/// How often a change is decided anew because another writer was faster. Concurrent writers of one device are few.
const ATTEMPTS_MAX: usize = 16;
