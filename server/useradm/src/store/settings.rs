//! Settings of tenants and of users: JSON as it came, with an entity tag.

use ambidex_db::{Db, DbError, Statement, Value, params, statement};

const GET: &str = "SELECT value, etag FROM useradm_settings WHERE tenant_id = $1";

const PUT: &str = "INSERT INTO useradm_settings (tenant_id, value, etag) VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id) DO UPDATE SET value = EXCLUDED.value, etag = EXCLUDED.etag";

const PUT_IF: &str =
    "UPDATE useradm_settings SET value = $2, etag = $3 WHERE tenant_id = $1 AND etag = $4";

const GET_OWN: &str =
    "SELECT value, etag FROM useradm_user_settings WHERE tenant_id = $1 AND user_id = $2";

const PUT_OWN: &str =
    "INSERT INTO useradm_user_settings (tenant_id, user_id, value, etag) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant_id, user_id) DO UPDATE SET value = EXCLUDED.value, etag = EXCLUDED.etag";

const PUT_OWN_IF: &str = "UPDATE useradm_user_settings SET value = $3, etag = $4
    WHERE tenant_id = $1 AND user_id = $2 AND etag = $5";

const DELETE_OWN: &str = "DELETE FROM useradm_user_settings WHERE tenant_id = $1 AND user_id = $2";

/// Settings of a tenant or of one of its users.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) user: Option<&'a str>,
}

/// Text and entity tag.
pub(crate) async fn get(db: &Db, owner: Owner<'_>) -> Result<Option<(String, String)>, DbError> {
    let row = match owner.user {
        None => db.point(GET, &params![owner.tenant]).await?,
        Some(user) => db.point(GET_OWN, &params![owner.tenant, user]).await?,
    };
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// Replaces the settings; with `seen`, only those with this entity tag.
pub(crate) fn put(owner: Owner<'_>, value: &str, etag: &str, seen: Option<&str>) -> Statement {
    let mut values = params![owner.tenant];
    values.extend(owner.user.map(Value::from));
    values.extend(params![value, etag]);
    values.extend(seen.map(Value::from));
    match (owner.user, seen) {
        (None, None) => statement(PUT, values),
        (None, Some(_)) => statement(PUT_IF, values).expect_one(),
        (Some(_), None) => statement(PUT_OWN, values),
        (Some(_), Some(_)) => statement(PUT_OWN_IF, values).expect_one(),
    }
}

pub(crate) fn delete_own(tenant: &str, user: &str) -> Statement {
    statement(DELETE_OWN, params![tenant, user])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[GET, GET_OWN];
