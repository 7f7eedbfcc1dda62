//! Aborting a deployment.
//!
//! One short batch ends the deployment and settles its statistics; from then on no device gets it and
//! no unfinished device can report to it. The rows of the devices follow in stretches.

use ambidex_access::{TenantId, UserIdentity};

use super::audit;
use super::deployment::Status;
use crate::Context;
use crate::error::Error;
use crate::store;
use crate::store::device::Sweep;

/// Targets up to which an abort is answered after the last row. A larger one is answered at once: what
/// clients see is settled already.
const CLEANED_BEFORE_ANSWER_MAX: u64 = 10_000;

/// Aborts a deployment (`abort_deployment`).
///
/// # Errors
/// 404 when there is no such deployment, 422 when it has finished.
pub async fn abort(context: &Context, user: &UserIdentity, id: &str) -> Result<(), Error> {
    let tenant = &user.tenant;
    let finished = || Error::Unprocessable("Deployment already finished".to_owned());
    let deployment = store::deployment::find(&context.db, tenant, id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    if deployment.status == Status::Finished {
        return Err(finished());
    }
    let now_ms = context.clock.now_ms();
    let outcome = context
        .db
        .apply(vec![
            store::deployment::abort(tenant, id, now_ms),
            audit::deployment(context, user, audit::ABORT, &deployment),
        ])
        .await
        .map_err(Error::from);
    match outcome {
        Err(error) if error.is_lost_race() => return Err(finished()),
        outcome => outcome?,
    };
    context.jobs.wake();
    // A client that hangs up must not stop the work; a failure is made good later, see [`super::recovery`].
    let (context, tenant) = (context.clone(), tenant.clone());
    let work = tokio::spawn(async move {
        if let Err(error) = clean(&context, &tenant, deployment.number, now_ms).await {
            tracing::warn!(
                ?error,
                "devices of an aborted deployment are left until the next start"
            );
        }
    });
    if deployment.target_count <= CLEANED_BEFORE_ANSWER_MAX {
        work.await
            .map_err(|error| Error::Internal(format!("aborting a deployment: {error}")))?;
    }
    Ok(())
}

/// Brings the rows of an aborted deployment's devices to their end.
///
/// # Errors
/// Those of the store; safe to repeat.
pub async fn clean(
    context: &Context,
    tenant: &TenantId,
    number: i64,
    at_ms: i64,
) -> Result<(), Error> {
    store::device::sweep(
        &context.db,
        &context.clock,
        tenant,
        number,
        Sweep::Abort { at_ms },
    )
    .await?;
    context
        .db
        .apply(vec![store::deployment::cleaned(tenant, number)])
        .await?;
    Ok(())
}
