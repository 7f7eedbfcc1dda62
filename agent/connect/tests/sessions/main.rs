//! Sessions against a bare websocket peer that speaks the codec: rows CN-06 to CN-18, CN-22 to CN-24, CN-28
//! and CN-39 of the acceptance table, as far as they are the device's.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod control;
mod files;
mod forward;
mod peer;
mod remains;
mod resume;
mod shell;
mod uploads;
