//! Files that clients send straight into the store, past this server where the store allows it.
//!
//! The client gets a link, sends the file and says that it is there; a durable job then passes the file
//! through the same checks as any upload, into a file of its own: whoever has the link could still change
//! the first one. A second job, due when the link has expired, removes what is left.

use std::sync::Arc;

use ambidex_access::{TenantId, UserIdentity};
use ambidex_jobs::{Handler, Job, JobError};
use ambidex_kit::{BoxFuture, new_id};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::artifact::Artifact;
use super::audit;
use super::intake::{self, Announced, Intake};
use crate::Context;
use crate::error::Error;
use crate::store;

/// Kind of the job that checks a file.
pub const COMPLETE_JOB: &str = "complete_upload";
/// Kind of the job that removes what is left.
pub const SWEEP_JOB: &str = "sweep_upload";
/// How long a link works, in milliseconds (reference, section 5).
pub const LINK_MS: i64 = 60 * 60 * 1000;
/// A file whose transfer began before the link expired may take so much longer, in milliseconds.
const GRACE_MS: i64 = 60 * 60 * 1000;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Processing,
    Completed,
    Aborted,
}

impl Status {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        }
    }

    /// Reads the word in the database.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Processing,
            Self::Completed,
            Self::Aborted,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

/// Somebody means to upload a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The artifact's id, once it is there.
    pub id: String,
    pub blob_key: String,
    pub expires_ms: i64,
    pub status: Status,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: String,
    #[serde(default)]
    user_id: String,
}

fn order(id: &str, user_id: &str) -> Result<serde_json::Value, Error> {
    serde_json::to_value(Order {
        id: id.to_owned(),
        user_id: user_id.to_owned(),
    })
    .map_err(|error| Error::Internal(format!("an order as JSON: {error}")))
}

/// Notes an intent (`request_direct_upload`).
///
/// # Errors
/// 403 for a user limited to tagged releases: nobody knows yet which one this will be; those of the store.
pub async fn begin(context: &Context, user: &UserIdentity) -> Result<Intent, Error> {
    if user.grants.release_tags.is_some() {
        return Err(Error::Forbidden("Access denied (RBAC).".to_owned()));
    }
    let tenant = &user.tenant;
    let id = new_id();
    let intent = Intent {
        id: id.to_string(),
        blob_key: intake::key(tenant, id),
        expires_ms: context.clock.now_ms().saturating_add(LINK_MS),
        status: Status::Pending,
    };
    let sweep = context.jobs.enqueue_at(
        SWEEP_JOB,
        tenant.as_str(),
        &order(&intent.id, "")?,
        intent.expires_ms.saturating_add(GRACE_MS),
    );
    context
        .db
        .apply(vec![store::upload::insert(tenant, &intent), sweep])
        .await?;
    Ok(intent)
}

/// The file is there (`complete_direct_upload`): checks it in a job.
///
/// # Errors
/// 404 when there is no pending intent or no file; those of the stores.
pub async fn complete(context: &Context, user: &UserIdentity, id: &str) -> Result<(), Error> {
    const NOT_FOUND: Error = Error::NotFound("not found");
    let tenant = &user.tenant;
    let intent = store::upload::find(&context.db, tenant, id)
        .await?
        .filter(|intent| intent.status == Status::Pending)
        .ok_or(NOT_FOUND)?;
    if !context.blobs.exists(&intent.blob_key).await? {
        return Err(NOT_FOUND);
    }
    let job = context
        .jobs
        .enqueue(COMPLETE_JOB, tenant.as_str(), &order(id, &user.user_id)?);
    let batch = vec![
        store::upload::advance(tenant, id, Status::Pending, Status::Processing),
        job,
    ];
    match context.db.apply(batch).await.map_err(Error::from) {
        Err(error) if error.is_lost_race() => Err(NOT_FOUND),
        outcome => {
            outcome?;
            context.jobs.wake();
            Ok(())
        }
    }
}

/// The tenant and the id of the intent that a key was made for.
pub fn parse_key(key: &str) -> Option<(TenantId, String)> {
    let (tenant, file) = key.rsplit_once('/').unwrap_or(("", key));
    let id = Uuid::try_parse(file).ok()?;
    Some((TenantId::new(tenant), id.to_string()))
}

/// Whether a file may still be sent for this key.
///
/// # Errors
/// Those of the store.
pub async fn is_pending(
    context: &Context,
    tenant: &TenantId,
    id: &str,
    key: &str,
) -> Result<bool, Error> {
    let intent = store::upload::find(&context.db, tenant, id).await?;
    Ok(intent.is_some_and(|intent| intent.status == Status::Pending && intent.blob_key == key))
}

struct Complete(Context);

impl Handler for Complete {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let order: Order =
                serde_json::from_value(job.payload.clone()).map_err(JobError::failed)?;
            let tenant = TenantId::new(job.tenant.as_str());
            let outcome = take_in(&self.0, &tenant, &order, job).await;
            match outcome {
                Ok(()) => Ok(()),
                Err(error @ (Error::Db(_) | Error::Blob(_) | Error::Internal(_))) => {
                    Err(JobError::retry(job, error))
                }
                Err(error) => {
                    let batch = vec![store::upload::advance(
                        &tenant,
                        &order.id,
                        Status::Processing,
                        Status::Aborted,
                    )];
                    self.0
                        .db
                        .apply(batch)
                        .await
                        .map_err(|error| JobError::retry(job, error))?;
                    Err(JobError::failed(error))
                }
            }
        })
    }
}

async fn take_in(
    context: &Context,
    tenant: &TenantId,
    order: &Order,
    job: &Job,
) -> Result<(), Error> {
    let intent = store::upload::find(&context.db, tenant, &order.id)
        .await?
        .filter(|intent| intent.status == Status::Processing)
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    let announced = Announced {
        artifact_id: Some(order.id.clone()),
        ..Announced::default()
    };
    let mut intake = Intake::begin(context, tenant, announced).await?;
    let (_, mut content) = context.blobs.get(&intent.blob_key, None).await?;
    while let Some(piece) = content.next().await {
        intake.write(piece?).await?;
    }
    let and = |made: &Artifact| {
        Ok(vec![
            store::upload::advance(tenant, &order.id, Status::Processing, Status::Completed),
            context.jobs.done(job),
            audit::artifact_by(
                context,
                (tenant, &order.user_id),
                audit::UPLOAD,
                &made.id,
                &made.name,
            ),
        ])
    };
    intake.finish(&and).await?;
    // If the file cannot go now, the sweep deletes it.
    if let Err(error) = context.blobs.delete(&intent.blob_key).await {
        tracing::warn!(
            ?error,
            "an uploaded file is left until its link has expired"
        );
    }
    Ok(())
}

struct Sweep(Context);

impl Handler for Sweep {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let order: Order =
                serde_json::from_value(job.payload.clone()).map_err(JobError::failed)?;
            sweep(&self.0, &TenantId::new(job.tenant.as_str()), &order.id)
                .await
                .map_err(|error| JobError::retry(job, error))
        })
    }
}

async fn sweep(context: &Context, tenant: &TenantId, id: &str) -> Result<(), Error> {
    let Some(intent) = store::upload::find(&context.db, tenant, id).await? else {
        return Ok(());
    };
    if intent.status == Status::Processing {
        return Err(Error::Conflict("the upload is being checked".to_owned()));
    }
    context.blobs.delete(&intent.blob_key).await?;
    context
        .db
        .apply(vec![store::upload::delete(tenant, id)])
        .await?;
    Ok(())
}

/// The handlers, for registration.
pub fn handlers(context: &Context) -> [(&'static str, Arc<dyn Handler>); 2] {
    [
        (COMPLETE_JOB, Arc::new(Complete(context.clone()))),
        (SWEEP_JOB, Arc::new(Sweep(context.clone()))),
    ]
}
