//! Tokens that count: of logins, and personal access tokens, which have a name.

use ambidex_db::{Db, DbError, Row, Statement, params, statement};

/// The token and, one a row, the roles of its user.
const WITH_ROLES: &str = "SELECT t.name, t.last_used_ms, r.role FROM useradm_tokens t
    LEFT JOIN useradm_user_roles r ON r.tenant_id = t.tenant_id AND r.user_id = t.user_id
    WHERE t.tenant_id = $1 AND t.user_id = $2 AND t.jti = $3 ORDER BY r.position";

const INSERT: &str = "INSERT INTO useradm_tokens (tenant_id, user_id, jti, created_ms, expires_ms)
    VALUES ($1, $2, $3, $4, $5)";

/// Only while the user has fewer than `$7` that count.
const INSERT_PERSONAL: &str =
    "INSERT INTO useradm_tokens (tenant_id, user_id, jti, created_ms, expires_ms, name)
    SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS BIGINT),
        CAST($6 AS TEXT)
    WHERE (SELECT COUNT(*) FROM useradm_tokens
        WHERE tenant_id = $1 AND user_id = $2 AND name IS NOT NULL) < $7";

const PERSONAL: &str = "SELECT jti, name, created_ms, expires_ms, last_used_ms FROM useradm_tokens
    WHERE tenant_id = $1 AND user_id = $2 AND name IS NOT NULL AND (expires_ms IS NULL OR expires_ms > $3)
    ORDER BY created_ms, jti";

const DELETE: &str =
    "DELETE FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2 AND jti = $3";

const DELETE_PERSONAL: &str = "DELETE FROM useradm_tokens
    WHERE tenant_id = $1 AND user_id = $2 AND jti = $3 AND name IS NOT NULL";

const DELETE_OTHERS: &str =
    "DELETE FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2 AND jti <> $3";

const DELETE_EXPIRED: &str =
    "DELETE FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2 AND expires_ms <= $3";

const DELETE_USER: &str = "DELETE FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2";

const DELETE_TENANT: &str = "DELETE FROM useradm_tokens WHERE tenant_id = $1";

const USED: &str = "UPDATE useradm_tokens SET last_used_ms = $4
    WHERE tenant_id = $1 AND user_id = $2 AND jti = $3";

/// Of the logins expired ones and, beyond the newest `$4`, the oldest.
const TRIM: &str = "DELETE FROM useradm_tokens
    WHERE tenant_id = $1 AND user_id = $2 AND name IS NULL
      AND (expires_ms <= $3 OR jti NOT IN (
          SELECT jti FROM useradm_tokens WHERE tenant_id = $1 AND user_id = $2 AND name IS NULL
          ORDER BY created_ms DESC, jti LIMIT $4))";

/// A token that counts, and what its user may do.
pub(crate) struct Counting {
    pub(crate) personal: bool,
    pub(crate) last_used_ms: Option<i64>,
    pub(crate) roles: Vec<String>,
}

/// A personal access token.
pub(crate) struct Personal {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) last_used_ms: Option<i64>,
}

/// `None` if the token does not count.
pub(crate) async fn counting(
    db: &Db,
    tenant: &str,
    user: &str,
    jti: &str,
) -> Result<Option<Counting>, DbError> {
    let rows = db.points(WITH_ROLES, &params![tenant, user, jti]).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut roles = Vec::new();
    for row in &rows {
        roles.extend(row.get::<Option<String>>(2)?);
    }
    Ok(Some(Counting {
        personal: first.get::<Option<String>>(0)?.is_some(),
        last_used_ms: first.get(1)?,
        roles,
    }))
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

/// Fails the batch if the user has `max` of them already.
pub(crate) fn insert_personal(tenant: &str, user: &str, token: &Personal, max: u32) -> Statement {
    statement(
        INSERT_PERSONAL,
        params![
            tenant,
            user,
            &token.id,
            token.created_ms,
            token.expires_ms,
            &token.name,
            max
        ],
    )
    .expect_one()
}

pub(crate) async fn personal(
    db: &Db,
    tenant: &str,
    user: &str,
    now_ms: i64,
) -> Result<Vec<Personal>, DbError> {
    let read = |row: &Row| {
        Ok(Personal {
            id: row.get(0)?,
            name: row.get(1)?,
            created_ms: row.get(2)?,
            expires_ms: row.get(3)?,
            last_used_ms: row.get(4)?,
        })
    };
    let rows = db.query(PERSONAL, params![tenant, user, now_ms]).await?;
    rows.iter().map(read).collect()
}

pub(crate) fn trim(tenant: &str, user: &str, now_ms: i64, keep: u32) -> Statement {
    statement(TRIM, params![tenant, user, now_ms, keep])
}

pub(crate) fn used(tenant: &str, user: &str, jti: &str, now_ms: i64) -> Statement {
    statement(USED, params![tenant, user, jti, now_ms])
}

pub(crate) fn delete(tenant: &str, user: &str, jti: &str) -> Statement {
    statement(DELETE, params![tenant, user, jti])
}

/// One personal access token; a login is left alone.
pub(crate) fn delete_personal(tenant: &str, user: &str, jti: &str) -> Statement {
    statement(DELETE_PERSONAL, params![tenant, user, jti])
}

/// All tokens of a user except `keep`.
pub(crate) fn delete_others(tenant: &str, user: &str, keep: &str) -> Statement {
    statement(DELETE_OTHERS, params![tenant, user, keep])
}

pub(crate) fn delete_expired(tenant: &str, user: &str, now_ms: i64) -> Statement {
    statement(DELETE_EXPIRED, params![tenant, user, now_ms])
}

/// All tokens of a user or, without one, of the tenant.
pub(crate) fn delete_all(tenant: &str, user: Option<&str>) -> Statement {
    match user {
        Some(user) => statement(DELETE_USER, params![tenant, user]),
        None => statement(DELETE_TENANT, params![tenant]),
    }
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[WITH_ROLES];
