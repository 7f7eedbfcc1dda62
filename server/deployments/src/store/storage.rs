//! Use and limit of artifact storage, and files that no artifact owns.

use ambidex_access::TenantId;
use ambidex_db::{Db, DbError, Statement, params, statement};
use ambidex_wire::management::deployments::StorageUsage;

use crate::error::Error;

pub const FIND: &str = "SELECT limit_bytes, usage_bytes FROM artifact_storage WHERE tenant_id = $1";

const ENSURE: &str = "INSERT INTO artifact_storage (tenant_id, limit_bytes, usage_bytes) \
     VALUES ($1, 0, 0) ON CONFLICT (tenant_id) DO NOTHING";

const SET_LIMIT: &str = "INSERT INTO artifact_storage (tenant_id, limit_bytes, usage_bytes) \
     VALUES ($1, $2, 0) ON CONFLICT (tenant_id) DO UPDATE SET limit_bytes = excluded.limit_bytes";

const TAKE: &str = "UPDATE artifact_storage SET usage_bytes = usage_bytes + $2 \
     WHERE tenant_id = $1 AND (limit_bytes = 0 OR usage_bytes + $2 <= limit_bytes)";

const GIVE_BACK: &str = "UPDATE artifact_storage SET usage_bytes = usage_bytes - $2 \
     WHERE tenant_id = $1 AND usage_bytes >= $2";

/// Whoever saves a file from being nobody's must be earlier than whoever removes it.
const CLAIM: &str = "DELETE FROM artifact_orphans WHERE blob_key = $1 AND since_ms > 0";
const CONDEMN: &str = "UPDATE artifact_orphans SET since_ms = 0 WHERE blob_key = $1";
const ADOPT: &str = "DELETE FROM artifact_orphans WHERE blob_key = $1";
const ORPHAN: &str = "INSERT INTO artifact_orphans (blob_key, since_ms) VALUES ($1, $2) \
     ON CONFLICT (blob_key) DO NOTHING";
const ORPHANS: &str =
    "SELECT blob_key FROM artifact_orphans WHERE since_ms <= $1 ORDER BY blob_key";

/// Limit and use of a tenant; zeros for one that never stored anything.
pub async fn find(db: &Db, tenant: &TenantId) -> Result<StorageUsage, Error> {
    match db.point(FIND, &params![tenant.as_str()]).await? {
        Some(row) => Ok(StorageUsage {
            limit: row.get(0)?,
            usage: row.get(1)?,
        }),
        None => Ok(StorageUsage { limit: 0, usage: 0 }),
    }
}

/// Use of all tenants together.
pub async fn total(db: &Db) -> Result<u64, DbError> {
    const TOTAL: &str =
        "SELECT CAST(COALESCE(SUM(usage_bytes), 0) AS BIGINT) FROM artifact_storage";
    let rows = db.query(TOTAL, params![]).await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

/// Makes the row that [`take`] needs.
pub fn ensure(tenant: &TenantId) -> Statement {
    statement(ENSURE, params![tenant.as_str()])
}

/// Sets the limit of a tenant; 0 lifts it.
pub fn set_limit(tenant: &TenantId, limit_bytes: u64) -> Statement {
    statement(SET_LIMIT, params![tenant.as_str(), limit_bytes])
}

/// Adds to the use; the batch fails when that exceeds the limit.
pub fn take(tenant: &TenantId, bytes: u64) -> Statement {
    statement(TAKE, params![tenant.as_str(), bytes]).expect_one()
}

/// Subtracts from the use.
pub fn give_back(tenant: &TenantId, bytes: u64) -> Statement {
    statement(GIVE_BACK, params![tenant.as_str(), bytes])
}

/// Notes that nobody owns a file.
pub fn orphan(blob_key: &str, now_ms: i64) -> Statement {
    statement(ORPHAN, params![blob_key, now_ms])
}

/// Notes that a file is owned from now on; the batch fails when it was given up meanwhile.
pub fn claim(blob_key: &str) -> Statement {
    statement(CLAIM, params![blob_key]).expect_one()
}

/// Gives a file up: nobody can claim it any more.
pub fn condemn(blob_key: &str) -> Statement {
    statement(CONDEMN, params![blob_key])
}

/// Notes that a file is owned, or gone.
pub fn adopt(blob_key: &str) -> Statement {
    statement(ADOPT, params![blob_key])
}

/// Files that nobody has owned since `before_ms`.
pub async fn orphans(db: &Db, before_ms: i64) -> Result<Vec<String>, Error> {
    db.query(ORPHANS, params![before_ms])
        .await?
        .iter()
        .map(|row| Ok(row.get(0)?))
        .collect()
}
