use ambidex_db::{Db, DbError, Row, Statement, params, statement};

use crate::domain::User;

const COLUMNS: &str =
    "id, email, created_ms, updated_ms, login_ms, login, tenant_id, password_hash";

const BY_ID: &str =
    "SELECT id, email, created_ms, updated_ms, login_ms, login, tenant_id, password_hash
    FROM useradm_users WHERE tenant_id = $1 AND id = $2";

const BY_EMAIL: &str =
    "SELECT id, email, created_ms, updated_ms, login_ms, login, tenant_id, password_hash
    FROM useradm_users WHERE email = $1";

const ANY: &str = "SELECT 1 FROM useradm_users LIMIT 1";

const INSERT: &str = "INSERT INTO useradm_users
    (tenant_id, id, email, password_hash, login, created_ms, updated_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $6)";

const UPDATE: &str = "UPDATE useradm_users
    SET email = COALESCE($3, email), password_hash = COALESCE($4, password_hash),
        login = COALESCE($5, login), updated_ms = $6
    WHERE tenant_id = $1 AND id = $2";

const LOGGED_IN: &str = "UPDATE useradm_users SET login_ms = $3 WHERE tenant_id = $1 AND id = $2";

const DELETE: &str = "DELETE FROM useradm_users WHERE tenant_id = $1 AND id = $2";

/// A row with what must not leave the service.
pub(crate) struct Stored {
    pub(crate) user: User,
    pub(crate) tenant: String,
    pub(crate) password_hash: Option<String>,
}

fn stored(row: &Row) -> Result<Stored, DbError> {
    let login: Option<String> = row.get(5)?;
    Ok(Stored {
        user: User {
            id: row.get(0)?,
            email: row.get(1)?,
            created_ms: row.get(2)?,
            updated_ms: row.get(3)?,
            login_ms: row.get(4)?,
            login: login.and_then(|text| serde_json::from_str(&text).ok()),
        },
        tenant: row.get(6)?,
        password_hash: row.get(7)?,
    })
}

pub(crate) async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<Stored>, DbError> {
    let row = db.point(BY_ID, &params![tenant, id]).await?;
    row.as_ref().map(stored).transpose()
}

pub(crate) async fn by_email(db: &Db, email: &str) -> Result<Option<Stored>, DbError> {
    let row = db.point(BY_EMAIL, &params![email]).await?;
    row.as_ref().map(stored).transpose()
}

/// All users of a tenant; few enough that the filters are applied by the caller.
pub(crate) async fn all(db: &Db, tenant: &str) -> Result<Vec<User>, DbError> {
    let sql =
        format!("SELECT {COLUMNS} FROM useradm_users WHERE tenant_id = $1 ORDER BY created_ms, id");
    let rows = db.query(sql, params![tenant]).await?;
    rows.iter().map(|row| stored(row).map(|s| s.user)).collect()
}

pub(crate) async fn any(db: &Db) -> Result<bool, DbError> {
    Ok(db.point(ANY, &[]).await?.is_some())
}

pub(crate) fn insert(
    tenant: &str,
    id: &str,
    email: &str,
    password_hash: Option<String>,
    login: Option<String>,
    now_ms: i64,
) -> Statement {
    statement(
        INSERT,
        params![tenant, id, email, password_hash, login, now_ms],
    )
}

pub(crate) fn update(
    tenant: &str,
    id: &str,
    email: Option<String>,
    password_hash: Option<String>,
    login: Option<String>,
    now_ms: i64,
) -> Statement {
    statement(
        UPDATE,
        params![tenant, id, email, password_hash, login, now_ms],
    )
    .expect_one()
}

pub(crate) fn logged_in(tenant: &str, id: &str, now_ms: i64) -> Statement {
    statement(LOGGED_IN, params![tenant, id, now_ms]).expect_one()
}

pub(crate) fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[BY_ID, BY_EMAIL];
