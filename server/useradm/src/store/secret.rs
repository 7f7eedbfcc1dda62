//! What the links of mails carry, hashed. One of each purpose a user: a newer mail makes the older one void.

use ambidex_db::{Db, DbError, Statement, params, statement};

const SENT: &str = "SELECT sent_ms FROM useradm_secrets
    WHERE tenant_id = $1 AND user_id = $2 AND purpose = $3";

const BY_HASH: &str = "SELECT tenant_id, user_id, email, expires_ms FROM useradm_secrets WHERE hash = $1 AND purpose = $2";

const PUT: &str =
    "INSERT INTO useradm_secrets (tenant_id, user_id, purpose, hash, email, expires_ms, sent_ms)
    VALUES ($1, $2, $3, $4, $5, $6, NULL)
    ON CONFLICT (tenant_id, user_id, purpose) DO UPDATE SET
        hash = EXCLUDED.hash, email = EXCLUDED.email, expires_ms = EXCLUDED.expires_ms, sent_ms = NULL";

const MARK_SENT: &str = "UPDATE useradm_secrets SET sent_ms = $4 WHERE tenant_id = $1 AND user_id = $2 AND purpose = $3";

const USE: &str = "DELETE FROM useradm_secrets WHERE hash = $1 AND purpose = $2";

const DELETE_USER: &str = "DELETE FROM useradm_secrets WHERE tenant_id = $1 AND user_id = $2";

/// A secret that has been found.
pub(crate) struct Stored {
    pub(crate) tenant: String,
    pub(crate) user: String,
    /// The address that the mail went to.
    pub(crate) email: String,
    pub(crate) expires_ms: i64,
}

/// When the last mail of this purpose was handed over.
pub(crate) async fn sent_ms(
    db: &Db,
    tenant: &str,
    user: &str,
    purpose: &str,
) -> Result<Option<i64>, DbError> {
    let row = db.point(SENT, &params![tenant, user, purpose]).await?;
    row.map_or(Ok(None), |row| row.get(0))
}

pub(crate) async fn by_hash(db: &Db, hash: &str, purpose: &str) -> Result<Option<Stored>, DbError> {
    let row = db.point(BY_HASH, &params![hash, purpose]).await?;
    row.map(|row| {
        Ok(Stored {
            tenant: row.get(0)?,
            user: row.get(1)?,
            email: row.get(2)?,
            expires_ms: row.get(3)?,
        })
    })
    .transpose()
}

pub(crate) fn put(
    tenant: &str,
    user: &str,
    purpose: &str,
    hash: &str,
    email: &str,
    expires_ms: i64,
) -> Statement {
    statement(PUT, params![tenant, user, purpose, hash, email, expires_ms])
}

pub(crate) fn mark_sent(tenant: &str, user: &str, purpose: &str, now_ms: i64) -> Statement {
    statement(MARK_SENT, params![tenant, user, purpose, now_ms])
}

/// Takes the secret away; fails the batch if somebody else was faster.
pub(crate) fn use_up(hash: &str, purpose: &str) -> Statement {
    statement(USE, params![hash, purpose]).expect_one()
}

pub(crate) fn delete_user(tenant: &str, user: &str) -> Statement {
    statement(DELETE_USER, params![tenant, user])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[SENT, BY_HASH];
