//! Changing and removing artifacts, as far as deployments allow.

use ambidex_access::UserIdentity;

use super::artifact::{Artifact, check_description};
use super::{audit, grants, recovery};
use crate::Context;
use crate::error::Error;
use crate::store;

/// Writes an artifact's description (`update_artifact_info`).
///
/// # Errors
/// 400 for a description that is too long, 404 for an unknown artifact, 422 once a deployment has used
/// it.
pub async fn describe(
    context: &Context,
    user: &UserIdentity,
    id: &str,
    description: &str,
) -> Result<(), Error> {
    check_description(description)?;
    let artifact = found(context, user, id).await?;
    let now_ms = context.clock.now_ms();
    let batch = vec![
        store::artifact::describe(&user.tenant, id, description, now_ms),
        audit::artifact(context, user, audit::UPDATE, id, &artifact.name),
    ];
    match context.db.apply(batch).await.map_err(Error::from) {
        Err(error) if error.is_lost_race() => {
            return Err(Error::Unprocessable(
                "Image has already been used in deployment".to_owned(),
            ));
        }
        outcome => outcome?,
    };
    context.jobs.wake();
    Ok(())
}

/// An artifact that the user sees.
///
/// # Errors
/// 404 for any other.
pub async fn found(context: &Context, user: &UserIdentity, id: &str) -> Result<Artifact, Error> {
    let artifact = store::artifact::find(&context.db, &user.tenant, id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    if !grants::sees_release(context, &user.tenant, &user.grants, &artifact.name).await? {
        return Err(Error::RESOURCE_NOT_FOUND);
    }
    Ok(artifact)
}

/// Removes an artifact and its file (`delete_artifact`).
///
/// # Errors
/// 404 for an unknown artifact, 409 while an unfinished deployment uses it.
pub async fn remove(context: &Context, user: &UserIdentity, id: &str) -> Result<(), Error> {
    let tenant = &user.tenant;
    let artifact = found(context, user, id).await?;
    let mut batch = Vec::from(store::artifact::delete(tenant, id));
    batch.push(store::storage::give_back(tenant, artifact.size_bytes));
    batch.push(store::storage::orphan(
        &artifact.blob_key,
        context.clock.now_ms(),
    ));
    batch.push(store::release::forget(tenant, &artifact.name));
    batch.push(audit::artifact(
        context,
        user,
        audit::DELETE,
        id,
        &artifact.name,
    ));
    let outcome = context.db.apply(batch).await.map_err(Error::from);
    match outcome {
        Err(error) if error.is_lost_race() => {
            return Err(Error::Conflict(
                "Artifact is used in active deployment".to_owned(),
            ));
        }
        outcome => outcome?,
    };
    context.jobs.wake();
    // The artifact is gone for everybody. If the file cannot go now, the next start deletes it.
    if let Err(error) = recovery::drop_orphan(context, &artifact.blob_key).await {
        tracing::warn!(
            ?error,
            blob_key = artifact.blob_key,
            "file of a deleted artifact is left"
        );
    }
    Ok(())
}
