//! Rows of limits. No row, or 0, stands for no limit.

use ambidex_db::{Db, DbError, Statement, params, statement};

pub(crate) const BY_NAME: &str =
    "SELECT value FROM devauth_limits WHERE tenant_id = $1 AND name = $2";
const PUT: &str = "INSERT INTO devauth_limits (tenant_id, name, value) VALUES ($1, $2, $3) \
    ON CONFLICT (tenant_id, name) DO UPDATE SET value = excluded.value";
const DELETE: &str = "DELETE FROM devauth_limits WHERE tenant_id = $1 AND name = $2";

pub async fn by_name(db: &Db, tenant: &str, name: &str) -> Result<Option<u64>, DbError> {
    db.point(BY_NAME, &params![tenant, name])
        .await?
        .map(|row| row.get(0))
        .transpose()
}

pub fn put(tenant: &str, name: &str, value: u64) -> Statement {
    statement(PUT, params![tenant, name, value])
}

pub fn delete(tenant: &str, name: &str) -> Statement {
    statement(DELETE, params![tenant, name])
}
