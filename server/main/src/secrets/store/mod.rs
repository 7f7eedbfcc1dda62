//! Statements and row mapping; nothing else.

use ambidex_db::{Db, DbError, Migration, Statement, params, statement};

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: include_str!("migrations/0001_init.sql"),
}];

const FIND: &str = "SELECT secret FROM server_secrets WHERE name = $1";
const OFFER: &str =
    "INSERT INTO server_secrets (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";

pub(super) async fn find(db: &Db, name: &str) -> Result<Option<Vec<u8>>, DbError> {
    match db.point(FIND, &params![name]).await? {
        Some(row) => Ok(Some(row.get(0)?)),
        None => Ok(None),
    }
}

/// The first one to come is kept.
pub(super) fn offer(name: &str, secret: &[u8]) -> Statement {
    statement(OFFER, params![name, secret])
}
