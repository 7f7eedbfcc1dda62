//! What is finished later because whoever began it could not.

use ambidex_access::TenantId;

use crate::Context;
use crate::domain::{abort, creation};
use crate::error::Error;
use crate::store;

/// Work that gave no sign of life for so long belongs to a process that has died, in milliseconds. Work in
/// progress gives one every few milliseconds, or (an upload about to become visible) ends within them.
const SILENCE_MS: i64 = 60_000;

/// What nobody works on any more.
pub struct LeftOver {
    unpublished: Vec<(TenantId, i64)>,
    unclean: Vec<(TenantId, i64)>,
    orphans: Vec<String>,
}

/// Finds what nobody works on any more. Other processes of the same database may be at work.
///
/// # Errors
/// Those of the store.
pub async fn find(context: &Context) -> Result<LeftOver, Error> {
    let before_ms = context.clock.now_ms().saturating_sub(SILENCE_MS);
    Ok(LeftOver {
        unpublished: store::deployment::unpublished(&context.db, before_ms).await?,
        unclean: store::deployment::unclean(&context.db, before_ms).await?,
        orphans: store::storage::orphans(&context.db, before_ms).await?,
    })
}

/// Removes deployments whose creation was cut off (nobody was told of them), brings devices of aborted
/// deployments to their end, and deletes files that no artifact owns. Nobody sees a difference before
/// and after, so requests may be served meanwhile.
///
/// # Errors
/// Those of the stores; safe to repeat.
pub async fn run(context: &Context, left: LeftOver) -> Result<(), Error> {
    for (tenant, number) in left.unpublished {
        match creation::discard(context, &tenant, number).await {
            // Another process was faster.
            Err(error) if error.is_lost_race() => {}
            outcome => outcome?,
        }
    }
    let now_ms = context.clock.now_ms();
    for (tenant, number) in left.unclean {
        abort::clean(context, &tenant, number, now_ms).await?;
    }
    for blob_key in left.orphans {
        drop_orphan(context, &blob_key).await?;
    }
    Ok(())
}

/// Deletes a file that no artifact owns, then the note about it. From the first step on nobody can make
/// it the file of an artifact, however slow an upload in another process is.
///
/// # Errors
/// Those of the stores; the note stays for the next try.
pub async fn drop_orphan(context: &Context, blob_key: &str) -> Result<(), Error> {
    context
        .db
        .apply(vec![store::storage::condemn(blob_key)])
        .await?;
    context.blobs.delete(blob_key).await?;
    context
        .db
        .apply(vec![store::storage::adopt(blob_key)])
        .await?;
    Ok(())
}
