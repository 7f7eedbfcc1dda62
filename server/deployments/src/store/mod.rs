//! The statements of this service and nothing else: no rule is decided here.

pub mod artifact;
pub mod deployment;
pub mod device;
pub mod dynamic;
pub mod group;
pub mod history;
pub mod log;
pub mod phase;
pub mod release;
pub mod secret;
pub mod storage;
pub mod upload;

use ambidex_db::{DbError, Migration};

use crate::error::Error;

/// The schema, version by version.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "init",
        sql: include_str!("migrations/0001_init.sql"),
    },
    Migration {
        version: 2,
        name: "whole",
        sql: include_str!("migrations/0002_whole.sql"),
    },
];

/// Reads a JSON column.
fn json<T: serde::de::DeserializeOwned>(column: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| {
        DbError::Corrupt(format!("column {column} holds no valid JSON: {error}")).into()
    })
}

/// Writes a JSON column.
pub fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::Internal(format!("value cannot be written as JSON: {error}")))
}

/// Every statement that is given to `Db::point` or `Db::points`: a test proves that each searches
/// an index.
#[cfg(test)]
pub const POINT_STATEMENTS: &[&str] = &[
    artifact::FIND,
    artifact::CANDIDATES,
    deployment::FIND,
    deployment::ARTIFACTS,
    deployment::EXISTS,
    device::ANY_OPEN,
    device::NEXT_OPEN,
    device::FIND,
    device::OPEN_OF_DEVICE,
    dynamic::CANDIDATES,
    group::LIST,
    history::LAST,
    history::DONE,
    log::FIND,
    phase::LIST,
    release::FIND,
    secret::FIND,
    storage::FIND,
    upload::FIND,
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn point_statements_scan_no_table() {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        db.migrate("deployments", MIGRATIONS).unwrap();
        for sql in POINT_STATEMENTS {
            ambidex_testdb::assert_searches(&db, sql);
        }
    }
}
