//! Workflows: definitions, and the engine that runs them.
//!
//! Owns definitions (stock ones are part of the program, others are registered), the record of jobs and the steps
//! that a job consists of: requests, programs, messages, mails. The work itself is a durable job, so it survives any
//! end of the process. Does not know what a step is for: that is in the definitions.

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
pub mod ports;
mod stock;
mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambidex_bus::Bus;
use ambidex_db::{Db, Statement};
use ambidex_jobs::Jobs;
use ambidex_kit::Clock;
use ambidex_mail::Mailer;
use axum::Router;
use serde_json::{Map, Value};

use domain::engine::Engine;
use domain::job;
use domain::task::Outside;
pub use error::WorkflowsError;
use ports::Services;
use store::job::Status;

/// Variables of the environment that configure the server itself may hold passwords: neither templates nor programs
/// see them.
const OWN_ENVIRONMENT: &str = "AMBIDEX_";
/// How often records of jobs are looked through for those beyond their time.
const PRUNE_ROUND: Duration = Duration::from_secs(900);

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names of hosts that are this server itself.
    pub own_hosts: Vec<String>,
    /// Absolute paths of the programs that `cli` steps may run.
    pub binaries: Vec<String>,
    /// What `${env.NAME}` finds before the environment of the process.
    pub environment: BTreeMap<String, String>,
    /// How long the record of a finished job is kept.
    pub done_kept: Duration,
    /// How long the record of a failed job is kept.
    pub failed_kept: Duration,
}

impl Default for Settings {
    /// The hosts are the services' names in the reference system's networks. Finished jobs are kept for a day, as
    /// long as the reference system keeps its queue; failed ones for a week, to be noticed.
    fn default() -> Settings {
        const OWN_HOSTS: [&str; 9] = [
            "mender-device-auth",
            "mender-inventory",
            "mender-deployments",
            "mender-deviceconnect",
            "mender-deviceconfig",
            "mender-useradm",
            "mender-tenantadm",
            "mender-auditlogs",
            "mender-workflows-server",
        ];
        let present = [("HAVE_DEVICECONNECT", "1"), ("HAVE_DEVICECONFIG", "1")];
        Settings {
            own_hosts: OWN_HOSTS.map(str::to_owned).to_vec(),
            binaries: Vec::new(),
            environment: present
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            done_kept: Duration::from_secs(24 * 3600),
            failed_kept: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What the engine works with.
pub struct Tools {
    /// This server's own services.
    pub services: Arc<dyn Services>,
    /// For `smtp` steps.
    pub mailer: Mailer,
    /// For `nats` steps.
    pub bus: Bus,
}

/// The workflow service. Cheap to clone.
#[derive(Clone)]
pub struct Workflows(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    jobs: Jobs,
    services: Arc<dyn Services>,
    mailer: Mailer,
    bus: Bus,
    outside: Outside,
    settings: Settings,
    ended: Mutex<BTreeMap<(String, &'static str), u64>>,
}

impl Inner {
    fn environment(&self, name: &str) -> Option<String> {
        if name.starts_with(OWN_ENVIRONMENT) {
            return None;
        }
        let set = self.settings.environment.get(name).cloned();
        set.or_else(|| std::env::var(name).ok())
    }

    fn count(&self, workflow: &str, status: Status) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (workflow.to_owned(), status.as_str());
        *ended.entry(key).or_default() += 1;
    }
}

impl Workflows {
    /// Starts the service: brings its tables up to date and registers the handler of workflow jobs.
    ///
    /// # Errors
    /// When either fails.
    pub fn new(
        db: Db,
        clock: Clock,
        jobs: Jobs,
        tools: Tools,
        settings: Settings,
    ) -> Result<Workflows, WorkflowsError> {
        db.migrate("workflows", store::MIGRATIONS)?;
        let inner = Arc::new(Inner {
            db,
            clock,
            jobs: jobs.clone(),
            services: tools.services,
            mailer: tools.mailer,
            bus: tools.bus,
            outside: Outside::new()?,
            settings,
            ended: Mutex::default(),
        });
        jobs.handle(job::KIND, Arc::new(Engine(Arc::clone(&inner))));
        Ok(Workflows(inner))
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::routes(self.clone())
    }

    /// Starts a job within a change of another service: the statement goes into the change's batch, and after that
    /// the job is durable. The job leaves no record unless it fails, and it persists when a step fails. Returns the
    /// statement and the id for [`Workflows::settle`].
    pub fn within_batch(
        &self,
        tenant: &str,
        workflow: &str,
        input: Map<String, Value>,
    ) -> (Statement, String) {
        job::within_batch(&self.0, tenant, workflow, input)
    }

    /// Says that a batch with the statement of a job was applied.
    pub fn wake(&self) {
        self.0.jobs.wake();
    }

    /// Runs the job now and waits for its end, at most `limit`. Whether it has ended; if not, it goes on.
    pub async fn settle(&self, tenant: &str, id: &str, limit: Duration) -> bool {
        match self.0.jobs.settle(tenant, id, limit).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(tenant, job = id, %error, "a workflow has not been run yet, it will be");
                false
            }
        }
    }

    /// Removes records beyond their time, forever. May be dropped at any await.
    pub async fn run(&self) {
        loop {
            if let Err(error) = job::prune(&self.0).await {
                tracing::warn!(%error, "records of old jobs were not removed");
            }
            tokio::time::sleep(PRUNE_ROUND).await;
        }
    }

    /// How many jobs of each workflow have ended in each way (`done`, `failed`) in this process since its start.
    pub fn ended(&self) -> Vec<(String, &'static str, u64)> {
        let ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended
            .iter()
            .map(|((workflow, status), jobs)| (workflow.clone(), *status, *jobs))
            .collect()
    }

    /// How many jobs are on record, by status.
    ///
    /// # Errors
    /// The database.
    pub async fn recorded(&self) -> Result<Vec<(String, u64)>, WorkflowsError> {
        Ok(store::job::counts(&self.0.db).await?)
    }
}
