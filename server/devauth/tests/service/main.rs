//! The service over its routers, on a real database. Names of tests carry the rows of the reference's table.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod audit;
mod auth_requests;
mod auth_sets;
mod devices;
mod hand_over;
mod hostile;
mod limits;
mod rig;
mod scale;
mod tenants;
mod tokens;
