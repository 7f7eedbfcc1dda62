//! Rows of tokens. A token is valid exactly as long as its row exists: whatever takes a device's admission away
//! deletes the row in the same batch, so a check is one read.

use ambidex_db::{Db, DbError, Statement, params, statement};

/// What a check of a token needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    pub device_id: String,
    /// The device's last recorded check-in; 0 for never.
    pub check_in_ms: i64,
}

pub(crate) const BY_ID: &str = "SELECT t.device_id, d.check_in_ms FROM devauth_tokens t \
    JOIN devauth_devices d ON d.tenant_id = t.tenant_id AND d.id = t.device_id \
    WHERE t.tenant_id = $1 AND t.id = $2";
/// Issues only while the set is accepted: a rejection between decision and write wins.
const ISSUE: &str = "INSERT INTO devauth_tokens (tenant_id, id, device_id, expires_ms) \
    SELECT tenant_id, id, device_id, CAST($3 AS BIGINT) FROM devauth_auth_sets WHERE tenant_id = $1 AND id = $2 AND status = 'accepted' \
    ON CONFLICT (tenant_id, id) DO UPDATE SET expires_ms = excluded.expires_ms";
const DELETE: &str = "DELETE FROM devauth_tokens WHERE tenant_id = $1 AND id = $2";
const DELETE_EXPIRED: &str =
    "DELETE FROM devauth_tokens WHERE tenant_id = $1 AND id = $2 AND expires_ms <= $3";
const DELETE_OF_DEVICE: &str = "DELETE FROM devauth_tokens WHERE tenant_id = $1 AND device_id = $2";
const DELETE_OF_TENANT: &str = "DELETE FROM devauth_tokens WHERE tenant_id = $1";

pub async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<TokenRow>, DbError> {
    let Some(row) = db.point(BY_ID, &params![tenant, id]).await? else {
        return Ok(None);
    };
    Ok(Some(TokenRow {
        device_id: row.get(0)?,
        check_in_ms: row.get(1)?,
    }))
}

/// Records that a token of this set is out, valid until `expires_ms` at the latest.
pub fn issue(tenant: &str, set_id: &str, expires_ms: i64) -> Statement {
    statement(ISSUE, params![tenant, set_id, expires_ms]).expect_one()
}

/// Revokes every token of one set.
pub fn delete(tenant: &str, set_id: &str) -> Statement {
    statement(DELETE, params![tenant, set_id])
}

/// Forgets the set's tokens if all of them have expired.
pub fn delete_expired(tenant: &str, set_id: &str, now_ms: i64) -> Statement {
    statement(DELETE_EXPIRED, params![tenant, set_id, now_ms])
}

pub fn delete_of_device(tenant: &str, device_id: &str) -> Statement {
    statement(DELETE_OF_DEVICE, params![tenant, device_id])
}

pub fn delete_of_tenant(tenant: &str) -> Statement {
    statement(DELETE_OF_TENANT, params![tenant])
}
