//! The loop: finds due jobs, takes their leases, runs them, records how they ended.
//!
//! One runner a process. It owns the set of running jobs: dropping it drops them, and their leases run out. A job's
//! own task renews its lease; when a renewal finds the lease gone, the work is dropped, because another process does
//! it now. Nothing is held across an await but the lease itself.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ambidex_kit::new_id;
use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::store::{self, Waiting};
use crate::tally::End;
use crate::{Handler, Job, JobError, Jobs, JobsError};

/// How often jobs that were given up are looked through for those beyond retention.
const PRUNE_ROUND: Duration = Duration::from_secs(600);
/// Pause after an error of the database.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// How often [`Jobs::settle`] looks at a job that another process has.
const SETTLE_POLL: Duration = Duration::from_millis(100);
/// What of a cause is kept in the row.
const CAUSE_BYTES_MAX: usize = 4_096;

impl Jobs {
    /// Runs jobs, forever. May be dropped at any await: unfinished jobs are taken over when their leases run out.
    pub async fn run(&self) {
        let mut running = JoinSet::new();
        let mut prune_at = Instant::now();
        loop {
            if prune_at <= Instant::now() {
                prune_at = Instant::now() + PRUNE_ROUND;
                if let Err(error) = self.prune().await {
                    tracing::warn!(%error, "failed jobs beyond their retention were not removed");
                }
            }
            let pause = match self.start_due(&mut running).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "jobs cannot be looked for");
                    ERROR_PAUSE
                }
            };
            tokio::select! {
                () = self.0.wake.notified() => {}
                Some(_) = running.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
            while running.try_join_next().is_some() {}
        }
    }

    /// Runs every job that is due, and those that they ask for, until none is due; returns how many executions there
    /// were. Jobs due later are left alone. For administration verbs and tests.
    ///
    /// # Errors
    /// The database.
    pub async fn run_due(&self) -> Result<usize, JobsError> {
        let mut executions = 0;
        let mut running = JoinSet::new();
        loop {
            let before = running.len();
            self.start_due(&mut running).await?;
            executions += running.len() - before;
            if running.join_next().await.is_none() {
                return Ok(executions);
            }
        }
    }

    /// Runs this job here and now unless it runs already, and waits for its end at most `limit`. Returns whether the
    /// job is out of the way: done or given up. Whatever this returns, the job remains durable.
    ///
    /// The work goes on when this future is dropped.
    ///
    /// # Errors
    /// The database.
    pub async fn settle(&self, tenant: &str, id: &str, limit: Duration) -> Result<bool, JobsError> {
        let end = Instant::now() + limit;
        let mut tried = false;
        loop {
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            let Some((kind, seen)) = store::by_id(&self.0.db, tenant, id).await? else {
                return Ok(true);
            };
            let now_ms = self.0.clock.now_ms();
            let handler = self
                .lock_handlers()
                .get_key_value(kind.as_str())
                .map(|(kind, handler)| (*kind, Arc::clone(handler)));
            if let Some((kind, handler)) = handler
                && !tried
                && seen.due_ms <= now_ms
            {
                tried = true;
                for job in self.claim(kind, vec![seen]).await? {
                    let (jobs, handler) = (self.clone(), Arc::clone(&handler));
                    tokio::spawn(async move { jobs.execute(job, handler).await });
                }
            } else if seen.lease.is_empty() {
                // It waits for its time or for its next attempt.
                return Ok(false);
            }
            let remaining = end.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Ok(false);
            }
            tokio::select! {
                () = ended => {}
                () = tokio::time::sleep(SETTLE_POLL.min(remaining)) => {}
            }
        }
    }

    /// Claims as many due jobs as there are free places and starts them. Returns until when there is nothing to do
    /// unless somebody wakes the runner.
    async fn start_due(&self, running: &mut JoinSet<()>) -> Result<Duration, JobsError> {
        let settings = &self.0.settings;
        let handlers: Vec<(&'static str, Arc<dyn Handler>)> = self
            .lock_handlers()
            .iter()
            .map(|(kind, handler)| (*kind, Arc::clone(handler)))
            .collect();
        let mut pause = settings.poll;
        for (kind, handler) in handlers {
            let free = settings.concurrency.saturating_sub(running.len());
            if free == 0 {
                // The end of a running job wakes the loop.
                return Ok(settings.poll);
            }
            // One more tells when the next is due.
            let mut waiting = store::next(&self.0.db, kind, free + 1).await?;
            let now_ms = self.0.clock.now_ms();
            let due = waiting.partition_point(|job| job.due_ms <= now_ms);
            if let Some(later) = waiting.get(due) {
                let wait_ms = u64::try_from(later.due_ms - now_ms).unwrap_or(0);
                pause = pause.min(Duration::from_millis(wait_ms.max(1)));
            }
            waiting.truncate(due.min(free));
            for job in self.claim(kind, waiting).await? {
                let (jobs, handler) = (self.clone(), Arc::clone(&handler));
                running.spawn(async move { jobs.execute(job, handler).await });
            }
        }
        Ok(pause)
    }

    /// Takes the leases of those jobs that nobody else was faster with.
    async fn claim(&self, kind: &'static str, seen: Vec<Waiting>) -> Result<Vec<Job>, JobsError> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        let until_ms = self.lease_end_ms();
        let leases: Vec<String> = seen.iter().map(|_| new_id().to_string()).collect();
        let batch = seen
            .iter()
            .zip(&leases)
            .map(|(job, lease)| store::claim(job, lease, until_ms))
            .collect();
        let touched = self.0.db.apply(batch).await?;
        Ok(seen
            .into_iter()
            .zip(leases)
            .zip(touched)
            .filter(|(_, touched)| *touched == 1)
            .map(|((seen, lease), _)| Job {
                kind,
                // The text was written by us from a value.
                payload: serde_json::from_str(&seen.payload).unwrap_or_default(),
                tenant: seen.tenant,
                id: seen.id,
                attempts: seen.attempts.saturating_add(1),
                created_ms: seen.created_ms,
                lease,
                generation: seen.generation,
            })
            .collect())
    }

    fn lease_end_ms(&self) -> i64 {
        let lease_ms = i64::try_from(self.0.settings.lease.as_millis()).unwrap_or(i64::MAX / 2);
        self.0.clock.now_ms().saturating_add(lease_ms)
    }

    async fn execute(&self, job: Job, handler: Arc<dyn Handler>) {
        let _running = self.0.tally.running(job.kind);
        let attempts_max = handler.attempts_max();
        // Also a job that ends the process each time is given up at last.
        let outcome = if job.attempts > attempts_max {
            Some(Err(JobError::failed(format!(
                "given up after {attempts_max} attempts, the last of which did not end"
            ))))
        } else {
            self.attempt(&job, &*handler).await
        };
        let end = match outcome {
            None => {
                tracing::warn!(kind = job.kind, tenant = %job.tenant, job = %job.id, "a job was taken over by another process while it ran");
                End::LeaseLost
            }
            Some(outcome) => self.record(&job, outcome, attempts_max).await,
        };
        self.0.tally.ended(job.kind, end);
        self.0.ended.notify_waiters();
    }

    /// Runs the handler and keeps the lease meanwhile; `None` when the lease was lost.
    async fn attempt(&self, job: &Job, handler: &dyn Handler) -> Option<Result<(), JobError>> {
        let mut work = std::pin::pin!(AssertUnwindSafe(handler.run(job)).catch_unwind());
        let mut renewal = tokio::time::interval(self.0.settings.lease / 3);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        renewal.tick().await;
        loop {
            tokio::select! {
                outcome = &mut work => return Some(outcome.unwrap_or_else(|_| {
                    Err(JobError::retry(job, "the handler panicked, see the log"))
                })),
                _ = renewal.tick() => {
                    let renewed = self.0.db.apply(vec![store::renew(job, self.lease_end_ms())]).await;
                    match renewed.as_deref() {
                        Ok([0]) => return None,
                        Ok(_) => {}
                        // It may still be in time at the next tick.
                        Err(error) => tracing::warn!(kind = job.kind, job = %job.id, %error, "the lease of a job was not renewed"),
                    }
                }
            }
        }
    }

    async fn record(&self, job: &Job, outcome: Result<(), JobError>, attempts_max: u32) -> End {
        let now_ms = self.0.clock.now_ms();
        let (batch, end) = match outcome {
            // The second finds a row only if the job was asked for again meanwhile.
            Ok(()) => (vec![store::done(job), store::again(job, now_ms)], End::Done),
            Err(JobError::Retry { after_ms, cause }) if job.attempts < attempts_max => {
                tracing::info!(kind = job.kind, tenant = %job.tenant, job = %job.id, attempt = job.attempts, after_ms, %cause, "a job is tried again");
                let due_ms = now_ms.saturating_add(after_ms.max(0));
                (vec![store::retry(job, due_ms, short(&cause))], End::Retried)
            }
            Err(JobError::Retry { cause, .. } | JobError::Failed { cause }) => {
                tracing::warn!(kind = job.kind, tenant = %job.tenant, job = %job.id, attempts = job.attempts, %cause, "a job is given up");
                (vec![store::fail(job, now_ms, short(&cause))], End::Failed)
            }
        };
        if let Err(error) = self.0.db.apply(batch).await {
            tracing::warn!(kind = job.kind, tenant = %job.tenant, job = %job.id, %error, "the end of a job was not recorded, it will run once more");
        }
        end
    }

    async fn prune(&self) -> Result<(), JobsError> {
        let retention_ms =
            i64::try_from(self.0.settings.retention.as_millis()).unwrap_or(i64::MAX / 2);
        let before_ms = self.0.clock.now_ms().saturating_sub(retention_ms);
        let batch: Vec<_> = self
            .lock_handlers()
            .keys()
            .map(|kind| store::prune(kind, before_ms))
            .collect();
        self.0.db.apply(batch).await?;
        Ok(())
    }
}

/// The beginning of a long cause.
fn short(cause: &str) -> &str {
    let end = cause.len().min(CAUSE_BYTES_MAX);
    let end = (0..=end).rev().find(|at| cause.is_char_boundary(*at));
    &cause[..end.unwrap_or(0)]
}
