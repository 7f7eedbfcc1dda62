//! Puts events on record that other services left in the queue of durable jobs.

use ambidex_access::TenantId;
use ambidex_jobs::{Handler, Job, JobError};
use ambidex_kit::BoxFuture;
use ambidex_wire::management::auditlogs::Event;

use crate::{Auditlogs, AuditlogsError};

impl Handler for Auditlogs {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let event: Event =
                serde_json::from_value(job.payload.clone()).map_err(JobError::failed)?;
            // The job's id names the event, so that a repetition changes nothing.
            match self
                .record(&TenantId::new(job.tenant.as_str()), &job.id, event)
                .await
            {
                Ok(()) => Ok(()),
                Err(error @ AuditlogsError::Invalid(_)) => Err(JobError::failed(error)),
                Err(error) => Err(JobError::retry(job, error)),
            }
        })
    }
}
