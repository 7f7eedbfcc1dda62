//! `ambidex-server migrate`

use std::collections::BTreeSet;

use crate::config::Store;
use crate::data_dir;
use crate::services::{Options, Services};

/// Brings the database up to date and says what that took.
pub(super) async fn run(store: &Store) -> anyhow::Result<()> {
    data_dir::prepare(&store.data_dir)?;
    let before = {
        let db = store.database.open()?;
        // A database that nobody has used yet has no list of them.
        let applied = db.applied_migrations().await.unwrap_or_default();
        db.close().await?;
        applied
    };
    let services = Services::open(store, Options::default()).await?;
    let after = services.db.applied_migrations().await?;
    let database = services.db.label();
    services.db.close().await?;
    let before: BTreeSet<_> = before.into_iter().collect();
    let new: Vec<_> = after
        .into_iter()
        .filter(|step| !before.contains(step))
        .collect();
    for step in &new {
        println!("{} {}: {}", step.service, step.version, step.name);
    }
    let done = match new.len() {
        0 => "nothing was to be done".to_owned(),
        1 => "1 step was applied".to_owned(),
        n => format!("{n} steps were applied"),
    };
    println!("the database {database} is up to date: {done}");
    Ok(())
}
