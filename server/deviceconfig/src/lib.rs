//! Configuration of devices: what operators want, what devices report, and bringing the one to the other.
//!
//! Owns the settings of devices. Deploying them is a workflow of other services: this one starts it, in the batch that
//! records it, through [`ports`]. Every operation of devices and users needs the add-on `configure`.

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
pub mod ports;
mod store;

use std::sync::Arc;

use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::Clock;
use axum::Router;

pub use error::DeviceconfigError;
use ports::Ports;

/// The device configuration service. Cheap to clone.
#[derive(Clone)]
pub struct Deviceconfig(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    jobs: Jobs,
    ports: Ports,
}

impl Deviceconfig {
    /// Starts the service: brings its tables up to date.
    ///
    /// # Errors
    /// When that fails.
    pub fn new(
        db: Db,
        clock: Clock,
        jobs: Jobs,
        ports: Ports,
    ) -> Result<Deviceconfig, DeviceconfigError> {
        db.migrate("deviceconfig", store::MIGRATIONS)?;
        Ok(Deviceconfig(Arc::new(Inner {
            db,
            clock,
            jobs,
            ports,
        })))
    }

    /// Routes of the public listener.
    pub fn routes(&self) -> Router {
        api::device::routes(self.clone()).merge(api::management::routes(self.clone()))
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::internal::routes(self.clone())
    }
}
