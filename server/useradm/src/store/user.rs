//! Rows of users.

use ambidex_db::{Db, DbError, Row, Statement, params, statement};

use crate::domain::{TwoFactorStatus, User};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, created_ms, updated_ms, login_ms, login, tenant_id, password_hash, \
             verified, tfa_status, tfa_secret FROM useradm_users ",
            $rest
        )
    };
}

const BY_ID: &str = select!("WHERE tenant_id = $1 AND id = $2");

const BY_EMAIL: &str = select!("WHERE email = $1");

const ALL: &str = select!("WHERE tenant_id = $1 ORDER BY created_ms, id");

const ANY: &str = "SELECT 1 FROM useradm_users LIMIT 1";

const INSERT: &str = "INSERT INTO useradm_users
    (tenant_id, id, email, password_hash, login, created_ms, updated_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $6)";

const TOUCH: &str = "UPDATE useradm_users SET updated_ms = $3 WHERE tenant_id = $1 AND id = $2";

const SET_EMAIL: &str =
    "UPDATE useradm_users SET email = $3, verified = 0, tfa_status = 'disabled', tfa_secret = NULL, tfa_step = 0
    WHERE tenant_id = $1 AND id = $2 AND email <> $3";

const SET_PASSWORD: &str =
    "UPDATE useradm_users SET password_hash = $3 WHERE tenant_id = $1 AND id = $2";

const SET_LOGIN: &str = "UPDATE useradm_users SET login = $3 WHERE tenant_id = $1 AND id = $2";

const VERIFY: &str =
    "UPDATE useradm_users SET verified = 1 WHERE tenant_id = $1 AND id = $2 AND email = $3";

const LOGGED_IN: &str = "UPDATE useradm_users SET login_ms = $3 WHERE tenant_id = $1 AND id = $2";

/// Touches the row, so that it cannot be deleted before the batch is through.
const HOLD: &str = "UPDATE useradm_users SET id = id WHERE tenant_id = $1 AND id = $2";

const DELETE: &str = "DELETE FROM useradm_users WHERE tenant_id = $1 AND id = $2";

/// A row with what must not leave the service.
pub(crate) struct Stored {
    pub(crate) user: User,
    pub(crate) tenant: String,
    pub(crate) password_hash: Option<String>,
    /// Sealed.
    pub(crate) tfa_secret: Option<String>,
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
            roles: Vec::new(),
            verified: row.get(8)?,
            two_factor: TwoFactorStatus::parse(row.text(9)?),
        },
        tenant: row.get(6)?,
        password_hash: row.get(7)?,
        tfa_secret: row.get(10)?,
    })
}

/// Without roles.
pub(crate) async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<Stored>, DbError> {
    let row = db.point(BY_ID, &params![tenant, id]).await?;
    row.as_ref().map(stored).transpose()
}

/// Without roles.
pub(crate) async fn by_email(db: &Db, email: &str) -> Result<Option<Stored>, DbError> {
    let row = db.point(BY_EMAIL, &params![email]).await?;
    row.as_ref().map(stored).transpose()
}

/// All users of a tenant, without roles; few enough that the filters are applied by the caller.
pub(crate) async fn all(db: &Db, tenant: &str) -> Result<Vec<User>, DbError> {
    let rows = db.query(ALL, params![tenant]).await?;
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

/// Fails the batch unless the user exists.
pub(crate) fn touch(tenant: &str, id: &str, now_ms: i64) -> Statement {
    statement(TOUCH, params![tenant, id, now_ms]).expect_one()
}

/// Another address is not proven, and takes the second factor with it (reference: user administration 4.1).
pub(crate) fn set_email(tenant: &str, id: &str, email: &str) -> Statement {
    statement(SET_EMAIL, params![tenant, id, email])
}

pub(crate) fn set_password(tenant: &str, id: &str, hash: &str) -> Statement {
    statement(SET_PASSWORD, params![tenant, id, hash])
}

pub(crate) fn set_login(tenant: &str, id: &str, login: &str) -> Statement {
    statement(SET_LOGIN, params![tenant, id, login])
}

/// Fails the batch unless the user has this address.
pub(crate) fn verify(tenant: &str, id: &str, email: &str) -> Statement {
    statement(VERIFY, params![tenant, id, email]).expect_one()
}

pub(crate) fn logged_in(tenant: &str, id: &str, now_ms: i64) -> Statement {
    statement(LOGGED_IN, params![tenant, id, now_ms]).expect_one()
}

/// Fails the batch unless the user exists when it is applied.
pub(crate) fn hold(tenant: &str, id: &str) -> Statement {
    statement(HOLD, params![tenant, id]).expect_one()
}

pub(crate) fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[BY_ID, BY_EMAIL];
