//! What a start-up finishes because the last run could not.

use ambidex_access::TenantId;

use crate::Context;
use crate::domain::{abort, creation};
use crate::error::Error;
use crate::store;

/// What an earlier run left. Read before requests are served: afterwards, work in progress would look
/// the same.
#[derive(Debug, Default)]
pub struct LeftOver {
    unpublished: Vec<(TenantId, i64)>,
    unclean: Vec<(TenantId, i64)>,
    orphans: Vec<String>,
}

impl LeftOver {
    /// What is still there in a later look.
    pub fn also_in(&self, later: &LeftOver) -> LeftOver {
        fn both<T: Clone + PartialEq>(left: &[T], right: &[T]) -> Vec<T> {
            let kept = left.iter().filter(|one| right.contains(one));
            kept.cloned().collect()
        }
        LeftOver {
            unpublished: both(&self.unpublished, &later.unpublished),
            unclean: both(&self.unclean, &later.unclean),
            orphans: both(&self.orphans, &later.orphans),
        }
    }
}

/// Finds what is unfinished: by an earlier run, or by work in progress.
///
/// # Errors
/// Those of the store.
pub async fn find(context: &Context) -> Result<LeftOver, Error> {
    Ok(LeftOver {
        unpublished: store::deployment::unpublished(&context.db).await?,
        unclean: store::deployment::unclean(&context.db).await?,
        orphans: store::storage::orphans(&context.db, context.clock.now_ms()).await?,
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
        creation::discard(context, &tenant, number).await?;
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

/// Deletes a file that no artifact owns, then the note about it.
///
/// # Errors
/// Those of the stores; the note stays for the next try.
pub async fn drop_orphan(context: &Context, blob_key: &str) -> Result<(), Error> {
    context.blobs.delete(blob_key).await?;
    context
        .db
        .apply(vec![store::storage::adopt(blob_key)])
        .await?;
    Ok(())
}
