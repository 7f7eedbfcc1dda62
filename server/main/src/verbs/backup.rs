//! `ambidex-server backup FILE` and `ambidex-server restore FILE`

use std::path::{Path, PathBuf};

use ambidex_blob::Blobs;
use ambidex_db::Db;
use ambidex_kit::{Clock, rfc3339};
use anyhow::{Context as _, bail};
use tokio::runtime::Handle;

use crate::backup::{self, Source, Stage};
use crate::config::{Artifacts, Database, Store};
use crate::data_dir;
use crate::services::{Options, Services};

/// Saves everything into one file, beside a running server or without one.
pub(super) async fn backup(store: &Store, file: &Path, force: bool) -> anyhow::Result<()> {
    if !force && file.exists() {
        bail!(
            "{} exists already; choose another name, or give --force",
            file.display()
        );
    }
    let Database::File(database) = &store.database else {
        bail!(
            "PostgreSQL is saved by its own means: pg_dump, or archiving; a backup file takes the embedded database"
        );
    };
    if !database.exists() {
        bail!(
            "there is no database at {}; check --data-dir",
            database.display()
        );
    }
    let Artifacts::Dir(artifacts) = &store.artifacts else {
        bail!(
            "artifacts in S3 are saved by the means of S3: versioning or replication of the bucket; a backup file takes the embedded database with artifacts in a directory"
        );
    };
    let keys = store.data_dir.join("keys");
    let links = ambidex_access::secret(&keys, crate::secrets::DOWNLOAD_LINKS)?;
    // Not the services: they would bring the database up to date under a running server of another version.
    let source = Source {
        db: Db::open_sqlite(database)?,
        blobs: Blobs::local(artifacts, links)?,
        keys,
    };
    let totals = backup::write(&source, file).await?;
    source.db.close().await?;
    let written = file.to_owned();
    let (_, read) = tokio::task::spawn_blocking(move || backup::verify(&written)).await??;
    if read != totals {
        bail!("{} does not hold what was written to it", file.display());
    }
    let bytes = std::fs::metadata(file)?.len();
    println!(
        "saved {totals} to {} ({}), every checksum verified",
        file.display(),
        backup::size(bytes)
    );
    Ok(())
}

/// Puts what `backup` saved in the place of the data directory.
pub(super) async fn restore(store: &Store, file: PathBuf, force: bool) -> anyhow::Result<()> {
    let target = &store.data_dir;
    let inside = matches!(&store.artifacts, Artifacts::Dir(dir) if dir.starts_with(target));
    let inside =
        inside && matches!(&store.database, Database::File(file) if file.starts_with(target));
    if !inside {
        bail!(
            "a backup is restored into one directory: leave out --database-url and --storage-url, then move the database and the artifacts where they belong"
        );
    }
    let empty = backup::is_empty(target)?;
    if !empty && !force {
        bail!(
            "{} is not empty; give --force to replace what is there (it is kept beside it)",
            target.display()
        );
    }
    // Held until the end: nobody may serve from here meanwhile.
    let _lock = if empty {
        None
    } else {
        Some(data_dir::lock(target)?)
    };
    let stage = Stage::new(target)?;
    let dir = stage.dir().to_owned();
    let handle = Handle::current();
    let (stage, about, totals) = tokio::task::spawn_blocking(move || {
        let (about, totals) = stage.unpack(&file, &handle)?;
        anyhow::Ok((stage, about, totals))
    })
    .await??;
    // Proves that this version can work with it, and brings it up to date.
    let services = Services::open(
        &Store {
            database: Database::File(dir.join("server.db")),
            artifacts: Artifacts::Dir(dir.join("artifacts")),
            data_dir: dir,
        },
        Options::default(),
    )
    .await
    .with_context(|| {
        let (here, there) = (env!("CARGO_PKG_VERSION"), &about.version);
        format!("the backup was made by version {there}, this is version {here}")
    })?;
    services.db.close().await?;
    drop(services);
    let now = rfc3339(Clock::system().now_ms());
    let kept = stage.take_place(&now)?;
    println!(
        "restored {totals}, saved on {} by version {}, to {}",
        about.created,
        about.version,
        target.display()
    );
    if let Some(kept) = kept {
        println!("what was there before is in {}", kept.display());
    }
    Ok(())
}

/// Reads a backup and checks every byte of it.
pub(super) async fn check(file: PathBuf) -> anyhow::Result<()> {
    let shown = file.display().to_string();
    let (about, totals) = tokio::task::spawn_blocking(move || backup::verify(&file)).await??;
    println!(
        "{shown} is whole: {totals}, saved on {} by version {}",
        about.created, about.version
    );
    Ok(())
}
