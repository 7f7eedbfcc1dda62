//! The service over its routers, on a real database. Names of tests carry the rows of the reference's table.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod attributes;
mod audit;
mod devices;
mod filters;
mod fleet;
mod groups;
mod hostile;
mod internal;
mod reach;
mod rig;
mod scale;
mod search;
mod tags;
mod words;
