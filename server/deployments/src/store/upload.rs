//! Files that clients send straight into the store.

use ambidex_access::TenantId;
use ambidex_db::{Db, DbError, Statement, params, statement};

use crate::domain::direct_upload::{Intent, Status};
use crate::error::Error;

pub const FIND: &str = "SELECT id, blob_key, expires_ms, status FROM artifact_uploads \
     WHERE tenant_id = $1 AND id = $2";

const INSERT: &str = "INSERT INTO artifact_uploads (tenant_id, id, blob_key, expires_ms, status) \
     VALUES ($1, $2, $3, $4, 'pending')";

const MOVE: &str = "UPDATE artifact_uploads SET status = $4 \
     WHERE tenant_id = $1 AND id = $2 AND status = $3";

const DELETE: &str = "DELETE FROM artifact_uploads WHERE tenant_id = $1 AND id = $2";

/// One intent to upload.
pub async fn find(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<Intent>, Error> {
    let Some(row) = db.point(FIND, &params![tenant.as_str(), id]).await? else {
        return Ok(None);
    };
    let status = row.text(3)?;
    Ok(Some(Intent {
        id: row.get(0)?,
        blob_key: row.get(1)?,
        expires_ms: row.get(2)?,
        status: Status::parse(status)
            .ok_or_else(|| DbError::Corrupt(format!("artifact_uploads.status is '{status}'")))?,
    }))
}

/// Notes an intent.
pub fn insert(tenant: &TenantId, intent: &Intent) -> Statement {
    let params = params![
        tenant.as_str(),
        &intent.id,
        &intent.blob_key,
        intent.expires_ms
    ];
    statement(INSERT, params)
}

/// Moves an intent on; the batch fails when it is not where it was.
pub fn advance(tenant: &TenantId, id: &str, from: Status, to: Status) -> Statement {
    let params = params![tenant.as_str(), id, from.as_str(), to.as_str()];
    statement(MOVE, params).expect_one()
}

/// Forgets an intent.
pub fn delete(tenant: &TenantId, id: &str) -> Statement {
    statement(DELETE, params![tenant.as_str(), id])
}
