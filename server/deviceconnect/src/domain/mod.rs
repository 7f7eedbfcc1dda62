//! Rules: who may connect to what, and what happens between the two.

pub(crate) mod admission;
pub(crate) mod audit;
pub(crate) mod cast;
pub(crate) mod command;
pub(crate) mod device_side;
pub(crate) mod envelope;
pub(crate) mod playback;
pub(crate) mod presence;
pub(crate) mod recorder;
pub(crate) mod recording;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod transfer;
pub(crate) mod user_side;

/// Bytes that a message costs besides its content, in the accounts of what is under way.
const OVERHEAD_BYTES: u64 = 256;
