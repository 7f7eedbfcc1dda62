//! What a start-up finishes because the last run could not.

use crate::Context;
use crate::domain::{abort, creation};
use crate::error::Error;
use crate::store;

/// Removes deployments whose creation was cut off (nobody was told of them), brings devices of aborted
/// deployments to their end, and deletes files that no artifact owns. To be called once, before
/// requests are served.
///
/// # Errors
/// Those of the stores; safe to repeat.
pub async fn run(context: &Context) -> Result<(), Error> {
    for (tenant, number) in store::deployment::unpublished(&context.db).await? {
        creation::discard(context, &tenant, number).await?;
    }
    let now_ms = context.clock.now_ms();
    for (tenant, number) in store::deployment::unclean(&context.db).await? {
        abort::clean(context, &tenant, number, now_ms).await?;
    }
    for blob_key in store::storage::orphans(&context.db, now_ms).await? {
        drop_orphan(context, &blob_key).await?;
    }
    Ok(())
}

/// Deletes a file that no artifact owns, then the note about it.
///
/// # Errors
/// Those of the stores; the note stays for the next try.
pub async fn drop_orphan(context: &Context, blob_key: &str) -> Result<(), Error> {
    context.blobs.delete(blob_key).await?;
    context.db.apply(vec![store::storage::adopt(blob_key)]).await?;
    Ok(())
}
