//! Roles of tenants and who has them.

use ambidex_db::{Db, DbError, Row, Statement, params, statement};

/// Columns of [`Stored`].
const ALL: &str = "SELECT name, description, permissions, permission_sets FROM useradm_roles
    WHERE tenant_id = $1 ORDER BY name";

const BY_NAME: &str = "SELECT name, description, permissions, permission_sets FROM useradm_roles
    WHERE tenant_id = $1 AND name = $2";

const COUNT: &str = "SELECT COUNT(*) FROM useradm_roles WHERE tenant_id = $1";

const INSERT: &str =
    "INSERT INTO useradm_roles (tenant_id, name, description, permissions, permission_sets, created_ms)
    VALUES ($1, $2, $3, $4, $5, $6)";

const UPDATE: &str =
    "UPDATE useradm_roles SET description = $3, permissions = $4, permission_sets = $5
    WHERE tenant_id = $1 AND name = $2";

const DELETE: &str = "DELETE FROM useradm_roles WHERE tenant_id = $1 AND name = $2";

const DROP: &str = "DELETE FROM useradm_user_roles WHERE tenant_id = $1 AND role = $2";

/// Touches the row, so that it cannot be deleted before the batch is through.
const HOLD: &str = "UPDATE useradm_roles SET name = name WHERE tenant_id = $1 AND name = $2";

const OF_USER: &str = "SELECT role FROM useradm_user_roles
    WHERE tenant_id = $1 AND user_id = $2 ORDER BY position";

const OF_TENANT: &str = "SELECT user_id, role FROM useradm_user_roles
    WHERE tenant_id = $1 ORDER BY user_id, position";

const CLEAR: &str = "DELETE FROM useradm_user_roles WHERE tenant_id = $1 AND user_id = $2";

const GIVE: &str =
    "INSERT INTO useradm_user_roles (tenant_id, user_id, position, role) VALUES ($1, $2, $3, $4)";

/// A role as it is stored: permissions and sets as JSON.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) permissions: String,
    pub(crate) sets: String,
}

fn stored(row: &Row) -> Result<Stored, DbError> {
    Ok(Stored {
        name: row.get(0)?,
        description: row.get(1)?,
        permissions: row.get(2)?,
        sets: row.get(3)?,
    })
}

pub(crate) async fn all(db: &Db, tenant: &str) -> Result<Vec<Stored>, DbError> {
    let rows = db.query(ALL, params![tenant]).await?;
    rows.iter().map(stored).collect()
}

pub(crate) async fn by_name(db: &Db, tenant: &str, name: &str) -> Result<Option<Stored>, DbError> {
    let row = db.point(BY_NAME, &params![tenant, name]).await?;
    row.as_ref().map(stored).transpose()
}

pub(crate) async fn count(db: &Db, tenant: &str) -> Result<u64, DbError> {
    let rows = db.query(COUNT, params![tenant]).await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

pub(crate) fn insert(tenant: &str, role: &Stored, now_ms: i64) -> Statement {
    statement(
        INSERT,
        params![
            tenant,
            &role.name,
            &role.description,
            &role.permissions,
            &role.sets,
            now_ms
        ],
    )
}

pub(crate) fn update(tenant: &str, role: &Stored) -> Statement {
    statement(
        UPDATE,
        params![
            tenant,
            &role.name,
            &role.description,
            &role.permissions,
            &role.sets
        ],
    )
    .expect_one()
}

/// Deletes a role and takes it from its users. In this order: whoever gives it to a user meanwhile holds
/// the row.
pub(crate) fn delete(tenant: &str, name: &str) -> [Statement; 2] {
    [DELETE, DROP].map(|sql| statement(sql, params![tenant, name]))
}

/// Fails the batch unless the role exists when it is applied.
pub(crate) fn hold(tenant: &str, name: &str) -> Statement {
    statement(HOLD, params![tenant, name]).expect_one()
}

pub(crate) async fn of_user(db: &Db, tenant: &str, user: &str) -> Result<Vec<String>, DbError> {
    let rows = db.points(OF_USER, &params![tenant, user]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// `(user, role)` of all users of a tenant, in order.
pub(crate) async fn of_tenant(db: &Db, tenant: &str) -> Result<Vec<(String, String)>, DbError> {
    let rows = db.query(OF_TENANT, params![tenant]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// Takes all roles from a user.
pub(crate) fn clear(tenant: &str, user: &str) -> Statement {
    statement(CLEAR, params![tenant, user])
}

pub(crate) fn give(tenant: &str, user: &str, position: usize, role: &str) -> Statement {
    statement(GIVE, params![tenant, user, position, role])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[BY_NAME, OF_USER];
