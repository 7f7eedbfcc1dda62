//! The real binary: start, stop, kill, wrong use.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod audit;
mod backup;
mod full_disk;
mod instance;
mod kill;
mod limits;
mod misuse;
mod observe;
mod rbac;
mod serving;
mod stopping;
mod tenants;
mod workflows;
