//! Mails to the operator, sent by durable jobs.

use ambidex_db::Statement;
use ambidex_jobs::{Handler, Job, JobError};
use ambidex_kit::BoxFuture;
use ambidex_mail::{Mail, Mailer};
use serde_json::json;

use crate::Inner;
use crate::domain::Tenant;

/// Kind of the jobs.
pub(crate) const KIND: &str = "tenantadm.support_mail";
/// Longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 200;

/// The statements that have the operator told of a tenant; none when nobody reads.
pub(crate) fn to_support(inner: &Inner, tenant: &Tenant, what: &str, text: &str) -> Vec<Statement> {
    if inner.settings.support_email.is_none() {
        return Vec::new();
    }
    let payload = json!({
        "subject": one_line(&format!("{what}: {} ({})", tenant.name, tenant.id)),
        "text": text,
    });
    vec![inner.jobs.enqueue(KIND, &tenant.id, &payload)]
}

pub(crate) fn one_line(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(SUBJECT_CHARS_MAX).collect()
}

/// Sends them.
pub(crate) struct SupportMail {
    pub(crate) mailer: Mailer,
    pub(crate) to: String,
}

impl Handler for SupportMail {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let text = |key: &str| job.payload[key].as_str().unwrap_or_default().to_owned();
            let mail = Mail {
                to: vec![self.to.clone()],
                subject: text("subject"),
                text: text("text"),
                ..Mail::default()
            };
            match self.mailer.send(mail).await {
                Ok(()) => Ok(()),
                Err(error) if error.is_temporary() => Err(JobError::retry(job, error)),
                Err(error) => Err(JobError::failed(error)),
            }
        })
    }
}
