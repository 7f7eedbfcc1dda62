//! Runs a job: one step after the other, each recorded before and after.
//!
//! The durable job under whose lease this runs is the only one that writes the job's record. A process that dies
//! leaves the record at the step it was at; whoever takes the job over begins that step again, so a step may happen
//! twice and the services it calls are idempotent. An attempt that was cut short does not count as a failed one.

use std::sync::Arc;

use ambidex_db::DbError;
use ambidex_jobs::{Handler, Job, JobError};
use ambidex_kit::BoxFuture;
use ambidex_wire::management::workflows::{Definition, Task, TaskResult};

use crate::Inner;
use crate::store::job::{self as rows, JobRow, Status};

use super::definition;
use super::job::Order;
use super::task::{self, Outcome};
use super::template::Scope;

/// Attempts of the durable job. Each retry of a step with a delay is one, so this bounds only a job that ends the
/// process again and again, or one that persists.
const ATTEMPTS_MAX: u32 = 1_000;
/// A persistent job begins anew this often: with the usual backoff about half a day.
const PERSISTENCE_MAX: u32 = 24;

/// The handler of workflow jobs.
pub(crate) struct Engine(pub(crate) Arc<Inner>);

/// A job at work.
struct Run<'a> {
    inner: &'a Inner,
    job: &'a Job,
    order: Order,
    record: JobRow,
    /// Whether there is a row of the job.
    recorded: bool,
}

impl Handler for Engine {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let order: Order = serde_json::from_value(job.payload.clone())
                .map_err(|error| JobError::failed(format!("unreadable order: {error}")))?;
            let mut run = Run::open(&self.0, job, order)
                .await
                .map_err(|error| JobError::retry(job, error))?;
            run.steps().await
        })
    }

    fn attempts_max(&self) -> u32 {
        ATTEMPTS_MAX
    }
}

impl<'a> Run<'a> {
    async fn open(inner: &'a Inner, job: &'a Job, order: Order) -> Result<Run<'a>, DbError> {
        let found = rows::of_tenant(&inner.db, &job.tenant, &job.id).await?;
        let recorded = found.is_some();
        let record = found.unwrap_or_else(|| JobRow {
            tenant: job.tenant.clone(),
            id: job.id.clone(),
            workflow: order.workflow.clone(),
            version: order.version.unwrap_or_default(),
            ephemeral: order.ephemeral,
            status: Status::Pending,
            input: order.input.clone(),
            results: Vec::new(),
            attempts: 0,
            created_ms: job.created_ms,
        });
        Ok(Run {
            inner,
            job,
            order,
            record,
            recorded,
        })
    }

    async fn definition(&mut self) -> Result<Option<Definition>, DbError> {
        let name = &self.order.workflow;
        let found = match self.order.version {
            Some(version) => definition::of_version(self.inner, name, version).await?,
            None => definition::newest(self.inner, name).await?,
        };
        if let Some(found) = &found {
            self.record.version = found.version;
        }
        Ok(found)
    }

    async fn steps(&mut self) -> Result<(), JobError> {
        if self.record.status.ended() {
            // The end was recorded, but not that of the durable job.
            return Ok(());
        }
        let definition = self.definition().await.map_err(|e| self.again(e))?;
        let Some(definition) = definition else {
            self.record.results.push(TaskResult {
                error: Some(format!("workflow {} does not exist", self.order.workflow)),
                ..TaskResult::default()
            });
            return self.end(Status::Failed).await;
        };
        while let Some(task) = definition.tasks.get(self.record.results.len()) {
            self.record.status = Status::Processing;
            if !self.record.ephemeral {
                self.save().await?;
            }
            let outcome = self.attempt(task).await;
            let attempts = self.record.attempts.saturating_add(1);
            let mut result = outcome.result;
            result.attempts = if result.skipped { 0 } else { attempts };
            result.name.clone_from(&task.name);
            result.kind.clone_from(&task.kind);
            if result.success {
                self.record.results.push(result);
                self.record.attempts = 0;
                continue;
            }
            let cause = cause(task, &result);
            if !outcome.permanent && attempts <= u32::from(task.retries) {
                self.record.attempts = attempts;
                if task.retry_delay_seconds > 0 {
                    let after_ms = i64::from(task.retry_delay_seconds) * 1_000;
                    return self.pause(after_ms, cause).await;
                }
                continue;
            }
            if self.order.persistent && !outcome.permanent && self.job.attempts < PERSISTENCE_MAX {
                self.record.attempts = 0;
                return self.pause(self.job.backoff_ms(), cause).await;
            }
            tracing::warn!(workflow = %self.record.workflow, job = %self.record.id, request_id = %self.order.request_id, %cause, "a workflow failed");
            self.record.results.push(result);
            self.record.attempts = 0;
            return self.end(Status::Failed).await;
        }
        self.end(Status::Done).await
    }

    async fn attempt(&self, task: &Task) -> Outcome {
        let environment = |name: &str| self.inner.environment(name);
        let scope = Scope {
            inputs: &self.record.input,
            environment: &environment,
            results: &self.record.results,
        };
        let unmet = task
            .requires
            .iter()
            .any(|wanted| scope.text(wanted).is_empty());
        if unmet {
            return Outcome::skipped();
        }
        task::perform(self.inner, task, &scope, &self.order.request_id).await
    }

    /// Records where the job is and lets it wait.
    async fn pause(&mut self, after_ms: i64, cause: String) -> Result<(), JobError> {
        self.save().await?;
        Err(JobError::Retry { after_ms, cause })
    }

    async fn save(&mut self) -> Result<(), JobError> {
        let batch = vec![rows::put(&self.record, 0)];
        self.inner
            .db
            .apply(batch)
            .await
            .map_err(|error| self.again(error))?;
        self.recorded = true;
        Ok(())
    }

    /// Records the end together with that of the durable job, so that nobody runs it again.
    async fn end(&mut self, status: Status) -> Result<(), JobError> {
        self.record.status = status;
        let now_ms = self.inner.clock.now_ms();
        let mut batch = vec![self.inner.jobs.done(self.job)];
        if !self.record.ephemeral || status == Status::Failed {
            batch.push(rows::put(&self.record, now_ms));
        } else if self.recorded {
            batch.push(rows::delete(&self.record.tenant, &self.record.id));
        }
        self.inner
            .db
            .apply(batch)
            .await
            .map_err(|error| self.again(error))?;
        self.inner.count(&self.record.workflow, status);
        Ok(())
    }

    fn again(&self, error: DbError) -> JobError {
        JobError::retry(self.job, error)
    }
}

fn cause(task: &Task, result: &TaskResult) -> String {
    let why = match (&result.error, &result.http_response, &result.cli) {
        (Some(error), _, _) => error.clone(),
        (None, Some(answer), _) => format!("answered {}", answer.status_code),
        (None, None, Some(cli)) => format!("exit code {}", cli.exit_code),
        (None, None, None) => "failed".to_owned(),
    };
    format!("task {}: {why}", task.name)
}
