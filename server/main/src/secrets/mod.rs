//! Keys that all instances on one database must have in common: a token or a link that one of them signs
//! is shown to another.
//!
//! The first instance puts its keys into the database, later ones copy them into their data directory.
//! Who can read the database can therefore sign tokens, as who can write it could make himself a user.

mod store;

use std::path::Path;

use ambidex_access::{Keys, adopt_secret, secret};
use ambidex_db::Db;
use anyhow::{Context as _, bail};

/// Signs links that lead to the server itself.
pub(crate) const DOWNLOAD_LINKS: &str = "download-links.key";
/// Seals the secrets of second factors in the database.
pub(crate) const SECOND_FACTORS: &str = "second-factors.key";
/// All of them.
const SHARED: [&str; 3] = [
    ambidex_access::TOKEN_SIGNING,
    DOWNLOAD_LINKS,
    SECOND_FACTORS,
];

/// Brings the keys of `dir` and of the shared database into line.
///
/// # Errors
/// When a key file here differs from what the other instances use: only a human knows which is right.
pub(crate) async fn share(db: &Db, dir: &Path) -> anyhow::Result<()> {
    db.migrate("server", store::MIGRATIONS)?;
    for name in SHARED {
        let path = dir.join(name);
        let had = path.exists();
        if let Some(theirs) = store::find(db, name).await? {
            agree(dir, name, &theirs)?;
            continue;
        }
        if name == ambidex_access::TOKEN_SIGNING {
            Keys::open(dir)?;
        } else {
            secret(dir, name)?;
        }
        let ours = std::fs::read(&path).with_context(|| path.display().to_string())?;
        db.apply(vec![store::offer(name, &ours)]).await?;
        let theirs = store::find(db, name)
            .await?
            .with_context(|| format!("{name} has vanished from the database"))?;
        if theirs != ours && !had {
            // Another instance started at the same moment and was first. Nothing is signed with ours yet.
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        agree(dir, name, &theirs)?;
    }
    Ok(())
}

fn agree(dir: &Path, name: &str, theirs: &[u8]) -> anyhow::Result<()> {
    if adopt_secret(dir, name, theirs)? != theirs {
        bail!(
            "the key file {} differs from the one that the other instances on this database use; remove the file to use theirs (tokens signed with it become invalid)",
            dir.join(name).display()
        );
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn db(dir: &Path) -> Db {
        Db::open_sqlite(&dir.join("server.db")).unwrap()
    }

    fn files(dir: &Path) -> Vec<Vec<u8>> {
        SHARED
            .map(|name| std::fs::read(dir.join(name)).unwrap())
            .to_vec()
    }

    #[tokio::test]
    async fn the_first_instance_gives_and_later_ones_take() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(dir.path());
        let [one, two, three] = ["one", "two", "three"].map(|name| dir.path().join(name));
        share(&db, &one).await.unwrap();
        share(&db, &two).await.unwrap();
        share(&db, &one).await.unwrap();
        assert_eq!(files(&one), files(&two));
        Keys::open(&two).unwrap();

        secret(&three, DOWNLOAD_LINKS).unwrap();
        let error = share(&db, &three).await.unwrap_err().to_string();
        assert!(
            error.contains(DOWNLOAD_LINKS) && error.contains("remove the file"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn instances_that_start_together_agree() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(dir.path());
        let dirs: Vec<_> = (0..4).map(|n| dir.path().join(n.to_string())).collect();
        let shared = dirs.iter().map(|dir| share(&db, dir));
        for outcome in futures_util::future::join_all(shared).await {
            outcome.unwrap();
        }
        assert!(
            dirs.windows(2)
                .all(|pair| files(&pair[0]) == files(&pair[1]))
        );
    }
}
