//! What all processes of one database share.

use ambidex_db::{Db, Statement, params, statement};

use crate::error::Error;

pub const FIND: &str = "SELECT secret FROM deployments_secrets WHERE name = $1";

const INSERT: &str = "INSERT INTO deployments_secrets (name, secret) VALUES ($1, $2) \
     ON CONFLICT (name) DO NOTHING";

/// A secret, in hexadecimal digits.
pub async fn find(db: &Db, name: &str) -> Result<Option<String>, Error> {
    Ok(db
        .point(FIND, &params![name])
        .await?
        .map(|row| row.get(0))
        .transpose()?)
}

/// Writes a secret unless there is one.
pub fn insert(name: &str, secret: &str) -> Statement {
    statement(INSERT, params![name, secret])
}
