use ambidex_db::{Db, DbError, Statement, params, statement};

use crate::ports::PreparedUser;

const BY_TENANT: &str = "SELECT user_id, email, password_hash, login FROM tenantadm_first_users
    WHERE tenant_id = $1";

const INSERT: &str = "INSERT INTO tenantadm_first_users
    (tenant_id, user_id, email, password_hash, login) VALUES ($1, $2, $3, $4, $5)";

const DELETE: &str = "DELETE FROM tenantadm_first_users WHERE tenant_id = $1";

pub(crate) async fn of_tenant(db: &Db, tenant: &str) -> Result<Option<PreparedUser>, DbError> {
    let Some(row) = db.point(BY_TENANT, &params![tenant]).await? else {
        return Ok(None);
    };
    let login: Option<String> = row.get(3)?;
    Ok(Some(PreparedUser {
        id: row.get(0)?,
        email: row.get(1)?,
        password_hash: row.get(2)?,
        login: login.and_then(|text| serde_json::from_str(&text).ok()),
    }))
}

pub(crate) fn insert(tenant: &str, user: &PreparedUser, login: Option<String>) -> Statement {
    statement(
        INSERT,
        params![
            tenant,
            user.id.as_str(),
            user.email.as_str(),
            user.password_hash.clone(),
            login,
        ],
    )
}

pub(crate) fn delete(tenant: &str) -> Statement {
    statement(DELETE, params![tenant])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[BY_TENANT];
