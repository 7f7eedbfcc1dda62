//! The service behind its routes: real database, real files, manual clock.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod artifacts;
mod audit;
mod concurrency;
mod configuration;
mod control_map;
mod deployments;
mod device_log;
mod device_next;
mod device_status;
mod direct_upload;
mod download;
mod dynamic;
mod generate;
mod grants;
mod history;
mod internal;
mod multipart;
mod phases;
mod releases;
mod retries;
mod scale;
mod tenants;
mod unauthorized;
mod upload;
mod world;
