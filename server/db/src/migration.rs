use crate::{DbError, Row, Statement, statement};

/// One step of a service's schema. Applied texts never change: a correction is a new version.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Ascending from 1 within the service.
    pub version: u32,
    /// Short name for humans.
    pub name: &'static str,
    /// The statements, as `include_str!` of a file under `store/migrations/`.
    pub sql: &'static str,
}

/// A step that has been applied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppliedMigration {
    /// Whose schema it is part of.
    pub service: String,
    /// Ascending from 1 within the service.
    pub version: u32,
    /// Short name for humans.
    pub name: String,
}

pub(crate) const APPLIED: &str =
    "SELECT service, version, name FROM schema_migrations ORDER BY service, version";

impl AppliedMigration {
    pub(crate) fn from_row(row: &Row) -> Result<AppliedMigration, DbError> {
        Ok(AppliedMigration {
            service: row.get(0)?,
            version: row.get(1)?,
            name: row.get(2)?,
        })
    }
}

impl Migration {
    /// FNV-1a over the text: enough to notice that an applied file was edited.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in self.sql.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        format!("{hash:016x}")
    }
}

/// The write by which the health check proves that the engine takes writes.
pub(crate) fn beat() -> Statement {
    statement(
        "UPDATE schema_ping SET beats = beats + 1 WHERE id = 1",
        Vec::new(),
    )
    .expect_one()
}

/// Which of `migrations` are still to be applied, given the `(version, fingerprint)` pairs on record.
pub(crate) fn outstanding<'a>(
    service: &str,
    migrations: &'a [Migration],
    applied: &[(u32, String)],
) -> Result<Vec<&'a Migration>, DbError> {
    if migrations
        .windows(2)
        .any(|pair| pair[0].version >= pair[1].version)
    {
        return Err(DbError::Other(format!(
            "migrations of {service} are not in ascending order"
        )));
    }
    for (version, fingerprint) in applied {
        let Some(known) = migrations.iter().find(|m| m.version == *version) else {
            return Err(DbError::Other(format!(
                "the database has schema version {version} of {service}, which this program does not know: \
                 run the newer program that wrote it, or restore a backup"
            )));
        };
        if known.fingerprint() != *fingerprint {
            return Err(DbError::Other(format!(
                "schema version {version} of {service} was applied with another text: \
                 run the program that wrote this database, or restore a backup"
            )));
        }
    }
    Ok(migrations
        .iter()
        .filter(|m| applied.iter().all(|(version, _)| *version != m.version))
        .collect())
}
