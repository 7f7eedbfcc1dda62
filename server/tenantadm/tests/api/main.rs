//! Tenant administration over its routers, with the real database, keys, jobs and a mailer that keeps.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod account;
mod rig;
mod sign_up;
mod standing;
mod tenants;
