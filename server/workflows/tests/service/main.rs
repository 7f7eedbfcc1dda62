//! The workflow service over its router, with the real engine, jobs and database.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod crash;
mod definitions;
mod jobs;
mod rig;
mod stock;
mod tasks;
