use ambidex_db::{Db, DbError, Statement, params, statement};

const EXISTS: &str =
    "SELECT 1 FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2 AND jti = $3";

const INSERT: &str = "INSERT INTO useradm_tokens (tenant_id, user_id, jti, created_ms, expires_ms)
    VALUES ($1, $2, $3, $4, $5)";

const DELETE: &str =
    "DELETE FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2 AND jti = $3";

const DELETE_OTHERS: &str =
    "DELETE FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2 AND jti <> $3";

const DELETE_USER: &str = "DELETE FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2";

const DELETE_TENANT: &str = "DELETE FROM useradm_tokens WHERE tenant_id = $1";

/// Expired ones and, beyond the newest `$4`, the oldest.
const TRIM: &str = "DELETE FROM useradm_tokens
    WHERE tenant_id = $1 AND user_id = $2
      AND (expires_ms <= $3 OR jti NOT IN (
          SELECT jti FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2
          ORDER BY created_ms DESC, jti LIMIT $4))";

pub(crate) async fn exists(db: &Db, tenant: &str, user: &str, jti: &str) -> Result<bool, DbError> {
    let row = db.point(EXISTS, &params![tenant, user, jti]).await?;
    Ok(row.is_some())
}

pub(crate) fn insert(
    tenant: &str,
    user: &str,
    jti: &str,
    now_ms: i64,
    expires_ms: Option<i64>,
) -> Statement {
    statement(INSERT, params![tenant, user, jti, now_ms, expires_ms])
}

pub(crate) fn trim(tenant: &str, user: &str, now_ms: i64, keep: u32) -> Statement {
    statement(TRIM, params![tenant, user, now_ms, keep])
}

pub(crate) fn delete(tenant: &str, user: &str, jti: &str) -> Statement {
    statement(DELETE, params![tenant, user, jti])
}

/// All sessions of a user except `keep`.
pub(crate) fn delete_others(tenant: &str, user: &str, keep: &str) -> Statement {
    statement(DELETE_OTHERS, params![tenant, user, keep])
}

/// All sessions of a user or, without one, of the tenant.
pub(crate) fn delete_all(tenant: &str, user: Option<&str>) -> Statement {
    match user {
        Some(user) => statement(DELETE_USER, params![tenant, user]),
        None => statement(DELETE_TENANT, params![tenant]),
    }
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[EXISTS];
