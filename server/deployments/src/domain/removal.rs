//! Changing and removing artifacts, as far as deployments allow.

use ambidex_access::TenantId;

use super::artifact::check_description;
use super::recovery;
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
    tenant: &TenantId,
    id: &str,
    description: &str,
) -> Result<(), Error> {
    check_description(description)?;
    store::artifact::find(&context.db, tenant, id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    let outcome = context
        .db
        .apply(vec![store::artifact::describe(
            tenant,
            id,
            description,
            context.clock.now_ms(),
        )])
        .await
        .map_err(Error::from);
    match outcome {
        Err(error) if error.is_lost_race() => Err(Error::Unprocessable(
            "Image has already been used in deployment".to_owned(),
        )),
        outcome => outcome.map(|_| ()),
    }
}

/// Removes an artifact and its file (`delete_artifact`).
///
/// # Errors
/// 404 for an unknown artifact, 409 while an unfinished deployment uses it.
pub async fn remove(context: &Context, tenant: &TenantId, id: &str) -> Result<(), Error> {
    let artifact = store::artifact::find(&context.db, tenant, id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    let mut batch = Vec::from(store::artifact::delete(tenant, id));
    batch.push(store::storage::give_back(tenant, artifact.size_bytes));
    batch.push(store::storage::orphan(
        &artifact.blob_key,
        context.clock.now_ms(),
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
