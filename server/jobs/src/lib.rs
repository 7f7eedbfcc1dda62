//! Durable jobs: work that must happen after a change, however often the server is killed.
//!
//! A job is a row. [`Jobs::enqueue`] returns a statement for the caller's own batch, so that the job exists exactly
//! if the change does; [`Jobs::wake`] after the commit starts it at once, and a poll every few seconds is the net.
//! Whoever runs a job holds a lease in its row, taken by a conditional update and renewed while the work goes on:
//! several processes share one table, and what a dead process held is taken over when the lease has run out.
//! A job therefore runs **at least once**; handlers are idempotent, or put [`Jobs::done`] into the batch of their
//! effect, which makes that effect happen exactly once.
//!
//! Owns the table, the leases, backoff and retention. Knows no service: what a kind of job does is its handler's.

#![forbid(unsafe_code)]

mod audit;
mod runner;
mod store;
mod tally;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ambidex_db::{Db, DbError, Statement};
use ambidex_kit::{BoxFuture, Clock, new_id};
use serde_json::Value;
use tokio::sync::Notify;

pub use audit::{AUDIT, audit, diff};
pub use store::FailedJob;
pub use tally::{Count, Tally};

/// First wait of the backoff, in milliseconds; it doubles with each attempt.
const BACKOFF_MS_MIN: i64 = 1_000;
/// Longest wait of the backoff, in milliseconds.
const BACKOFF_MS_MAX: i64 = 3_600_000;

/// What is wrong with the table of jobs.
#[derive(Debug, thiserror::Error)]
#[error("jobs: {0}")]
pub struct JobsError(#[from] pub DbError);

/// Why an attempt did not finish its job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It is worth another attempt.
    #[error("{cause}")]
    Retry {
        /// Wait before it, in milliseconds.
        after_ms: i64,
        /// What the attempt met.
        cause: String,
    },
    /// No attempt will succeed. The job is kept for inspection.
    #[error("{cause}")]
    Failed {
        /// What the attempt met.
        cause: String,
    },
}

impl JobError {
    /// Another attempt after a wait that doubles with each attempt of this job, from a second to an hour.
    pub fn retry(job: &Job, cause: impl std::fmt::Display) -> JobError {
        JobError::Retry {
            after_ms: job.backoff_ms(),
            cause: cause.to_string(),
        }
    }

    /// Gives the job up.
    pub fn failed(cause: impl std::fmt::Display) -> JobError {
        JobError::Failed {
            cause: cause.to_string(),
        }
    }
}

/// A job under the lease of the one execution that may finish it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What sort of work it is; names the handler.
    pub kind: &'static str,
    /// Whose work it is.
    pub tenant: String,
    /// Names it within the tenant.
    pub id: String,
    /// What the handler was asked to do.
    pub payload: Value,
    /// This attempt's number, from 1.
    pub attempts: u32,
    /// When it was asked for, in milliseconds since 1970.
    pub created_ms: i64,
    lease: String,
    generation: i64,
}

impl Job {
    /// The wait before the next attempt: a second, doubled with each attempt made, at most an hour.
    pub fn backoff_ms(&self) -> i64 {
        let doublings = self.attempts.saturating_sub(1).min(20);
        (BACKOFF_MS_MIN << doublings).min(BACKOFF_MS_MAX)
    }
}

/// Does the work of one kind of job.
pub trait Handler: Send + Sync {
    /// Does the work. May be dropped at any await when the server stops or the lease is lost.
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>>;

    /// Attempts before a job is given up, whatever its handler says. 24 attempts with the usual backoff are about
    /// half a day.
    fn attempts_max(&self) -> u32 {
        24
    }
}

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Jobs that run at the same time in this process.
    pub concurrency: usize,
    /// After how long a job of a process that has died is taken over. Renewed at a third of it.
    pub lease: Duration,
    /// Jobs are looked for this often even when nobody wakes the runner.
    pub poll: Duration,
    /// How long jobs that were given up are kept for inspection.
    pub retention: Duration,
}

impl Default for Settings {
    /// 32 jobs wait for neighbours most of their time; a lease of 30 s outlives any pause of a living process that
    /// still answers requests; a week is enough to notice a failed job.
    fn default() -> Settings {
        Settings {
            concurrency: 32,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(3),
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// The jobs of this database. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    settings: Settings,
    handlers: Mutex<BTreeMap<&'static str, Arc<dyn Handler>>>,
    /// Permits one waiting runner: there is new work, or a handler.
    wake: Notify,
    /// Tells those who wait in [`Jobs::settle`] that some job has ended.
    ended: Notify,
    /// Tells the other instances.
    hint: OnceLock<Box<dyn Fn() + Send + Sync>>,
    tally: Tally,
}

impl Jobs {
    /// Brings the table up to date.
    ///
    /// # Errors
    /// When that fails.
    pub fn new(db: Db, clock: Clock) -> Result<Jobs, JobsError> {
        Jobs::with_settings(db, clock, Settings::default())
    }

    /// Like [`Jobs::new`], with other limits.
    ///
    /// # Errors
    /// As [`Jobs::new`].
    pub fn with_settings(db: Db, clock: Clock, settings: Settings) -> Result<Jobs, JobsError> {
        db.migrate("jobs", store::MIGRATIONS)?;
        Ok(Jobs(Arc::new(Inner {
            db,
            clock,
            settings,
            handlers: Mutex::default(),
            wake: Notify::new(),
            ended: Notify::new(),
            hint: OnceLock::new(),
            tally: Tally::default(),
        })))
    }

    /// The statement that asks for a job now. It belongs into the batch of the change that causes it.
    pub fn enqueue(&self, kind: &'static str, tenant: &str, payload: &Value) -> Statement {
        self.enqueue_at(kind, tenant, payload, self.0.clock.now_ms())
    }

    /// Like [`Jobs::enqueue`], for later.
    pub fn enqueue_at(
        &self,
        kind: &'static str,
        tenant: &str,
        payload: &Value,
        due_ms: i64,
    ) -> Statement {
        self.row(kind, tenant, new_id().to_string(), payload, None, due_ms)
    }

    /// Like [`Jobs::enqueue`], but a job with this key that still waits is brought forward and takes the new payload
    /// instead; one that runs already runs once more afterwards.
    pub fn enqueue_unique(
        &self,
        kind: &'static str,
        tenant: &str,
        payload: &Value,
        key: &str,
    ) -> Statement {
        self.enqueue_unique_at(kind, tenant, payload, key, self.0.clock.now_ms())
    }

    /// Like [`Jobs::enqueue_unique`], for later.
    pub fn enqueue_unique_at(
        &self,
        kind: &'static str,
        tenant: &str,
        payload: &Value,
        key: &str,
        due_ms: i64,
    ) -> Statement {
        let id = new_id().to_string();
        self.row(kind, tenant, id, payload, Some(key), due_ms)
    }

    /// Like [`Jobs::enqueue`] with an id of the caller's choice, which [`Jobs::settle`] takes.
    pub fn enqueue_with_id(
        &self,
        kind: &'static str,
        tenant: &str,
        id: &str,
        payload: &Value,
    ) -> Statement {
        let now_ms = self.0.clock.now_ms();
        self.row(kind, tenant, id.to_owned(), payload, None, now_ms)
    }

    fn row(
        &self,
        kind: &'static str,
        tenant: &str,
        id: String,
        payload: &Value,
        unique_key: Option<&str>,
        due_ms: i64,
    ) -> Statement {
        store::enqueue(store::New {
            kind,
            tenant,
            id,
            payload: payload.to_string(),
            unique_key,
            due_ms,
            now_ms: self.0.clock.now_ms(),
        })
    }

    /// Says that there is new work. Never waits; may be called although there is none.
    pub fn wake(&self) {
        self.0.wake.notify_one();
        if let Some(hint) = self.0.hint.get() {
            hint();
        }
    }

    /// Another instance says that there is new work.
    pub fn wake_here(&self) {
        self.0.wake.notify_one();
    }

    /// What tells the other instances of new work whenever [`Jobs::wake`] is called. Set once; it must not wait.
    pub fn on_wake(&self, hint: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.hint.set(Box::new(hint));
    }

    /// Registers what does the work of a kind. Jobs of kinds without a handler wait.
    pub fn handle(&self, kind: &'static str, handler: Arc<dyn Handler>) {
        let mut handlers = self.lock_handlers();
        handlers.insert(kind, handler);
        self.0.wake.notify_one();
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.0.clock.now_ms()
    }

    fn lock_handlers(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Arc<dyn Handler>>> {
        // A map is whole between any two of its operations.
        self.0
            .handlers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The statement that ends a job; it fails the batch if the lease was lost. A handler that puts it into the
    /// batch of its effect has that effect exactly once.
    pub fn done(&self, job: &Job) -> Statement {
        store::done(job).expect_one()
    }

    /// Frees the jobs that an earlier process was at, unless the database is shared. Only for the process that holds
    /// the lock of the data directory, before it runs anything.
    ///
    /// # Errors
    /// The database.
    pub async fn take_over(&self) -> Result<(), JobsError> {
        // Another instance may be at work on a shared database: there the leases run out.
        if !self.0.db.is_shared() {
            let now_ms = self.0.clock.now_ms();
            self.0.db.apply(vec![store::take_over(now_ms)]).await?;
        }
        Ok(())
    }

    /// The statement that forgets every job of a tenant.
    pub fn forget_tenant(&self, tenant: &str) -> Statement {
        store::forget_tenant(tenant)
    }

    /// The newest jobs of a kind that were given up.
    ///
    /// # Errors
    /// The database.
    pub async fn failed(&self, kind: &str, limit: u32) -> Result<Vec<FailedJob>, JobsError> {
        Ok(store::failed(&self.0.db, kind, limit).await?)
    }

    /// Tries a job that was given up once more; whether there was one.
    ///
    /// # Errors
    /// The database.
    pub async fn revive(&self, tenant: &str, id: &str) -> Result<bool, JobsError> {
        let statement = store::revive(tenant, id, self.0.clock.now_ms());
        let touched = self.0.db.apply(vec![statement]).await?;
        self.wake();
        Ok(touched.first() == Some(&1))
    }

    /// What this process has done, since its start.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// How many jobs wait (`ready`, also those that run) and were given up (`failed`), by kind. Reads an index only.
    ///
    /// # Errors
    /// The database.
    pub async fn counts(&self) -> Result<Vec<Count>, JobsError> {
        let rows = store::counts(&self.0.db).await?;
        Ok(rows
            .into_iter()
            .map(|(kind, state, jobs)| Count { kind, state, jobs })
            .collect())
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Jobs").field(&self.0.db).finish()
    }
}
