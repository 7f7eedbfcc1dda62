//! Rows of changes that the neighbours still have to learn. One row a device: the newest change is the one to tell.

use ambidex_db::{Db, DbError, Statement, params, statement};

/// A device whose present state is owed to the neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverRow {
    pub tenant: String,
    pub device_id: String,
    /// Left by a version that told of removals here; a workflow does it now.
    pub removed: bool,
}

const CHANGED: &str = "INSERT INTO devauth_handovers (tenant_id, device_id, revision, removed) VALUES ($1, $2, $3, 0) \
    ON CONFLICT (tenant_id, device_id) DO UPDATE SET revision = excluded.revision";
const DONE: &str = "DELETE FROM devauth_handovers WHERE tenant_id = $1 AND device_id = $2 AND revision <= $3 AND removed = 0";
const FORGET: &str = "DELETE FROM devauth_handovers WHERE tenant_id = $1 AND device_id = $2";
const NEXT: &str = "SELECT tenant_id, device_id, removed FROM devauth_handovers \
    WHERE tenant_id > $1 OR (tenant_id = $1 AND device_id > $2) ORDER BY tenant_id, device_id LIMIT $3";

/// The device was created or its status changed; `revision` is the one after the change.
pub fn changed(tenant: &str, device_id: &str, revision: i64) -> Statement {
    statement(CHANGED, params![tenant, device_id, revision])
}

/// The neighbours know the device up to `revision`. A newer change keeps the row.
pub fn done(tenant: &str, device_id: &str, revision: i64) -> Statement {
    statement(DONE, params![tenant, device_id, revision])
}

/// There is nothing to tell about the device any more.
pub fn forget(tenant: &str, device_id: &str) -> Statement {
    statement(FORGET, params![tenant, device_id])
}

/// The next devices after this place in the order of keys.
pub async fn next(db: &Db, after: (&str, &str), limit: u64) -> Result<Vec<HandoverRow>, DbError> {
    let rows = db.query(NEXT, params![after.0, after.1, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(HandoverRow {
                tenant: row.get(0)?,
                device_id: row.get(1)?,
                removed: row.get(2)?,
            })
        })
        .collect()
}
