use ambidex_db::{Db, DbError, Row, Statement, Value, params, statement};

use crate::domain::User;

const INSERT: &str =
    "INSERT INTO tenantadm_users (tenant_id, id, name, login) VALUES ($1, $2, $3, $4)";

const SAVE: &str = "INSERT INTO tenantadm_users (tenant_id, id, name) VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id, id) DO UPDATE SET name = EXCLUDED.name";

const UPDATE: &str =
    "UPDATE tenantadm_users SET name = COALESCE($3, name), login = COALESCE($4, login)
    WHERE tenant_id = $1 AND id = $2";

const DELETE_ALL: &str = "DELETE FROM tenantadm_users WHERE tenant_id = $1";

const DELETE: &str = "DELETE FROM tenantadm_users WHERE tenant_id = $1 AND id = $2";

fn user(row: &Row) -> Result<User, DbError> {
    let login: Option<String> = row.get(3)?;
    Ok(User {
        tenant_id: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        login: login.and_then(|text| serde_json::from_str(&text).ok()),
        plan: row.get(4)?,
    })
}

/// Which users are wanted; `None` means any.
#[derive(Default)]
pub(crate) struct Filter<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) tenant_id: Option<&'a str>,
    pub(crate) id: Option<&'a str>,
}

pub(crate) async fn list(db: &Db, filter: &Filter<'_>) -> Result<Vec<User>, DbError> {
    let mut sql = String::from(
        "SELECT u.tenant_id, u.id, u.name, u.login, t.plan
         FROM tenantadm_users u JOIN tenantadm_tenants t ON t.id = u.tenant_id WHERE 1 = 1",
    );
    let mut values: Vec<Value> = Vec::new();
    for (column, wanted) in [
        ("u.name", filter.name),
        ("u.tenant_id", filter.tenant_id),
        ("u.id", filter.id),
    ] {
        if let Some(wanted) = wanted {
            values.push(wanted.into());
            sql.push_str(&format!(" AND {column} = ${}", values.len()));
        }
    }
    sql.push_str(" ORDER BY u.name");
    db.query(sql, values).await?.iter().map(user).collect()
}

pub(crate) fn insert(tenant: &str, id: &str, name: &str, login: Option<String>) -> Statement {
    statement(INSERT, params![tenant, id, name, login])
}

pub(crate) fn save(tenant: &str, id: &str, name: &str) -> Statement {
    statement(SAVE, params![tenant, id, name])
}

pub(crate) fn update(
    tenant: &str,
    id: &str,
    name: Option<String>,
    login: Option<String>,
) -> Statement {
    statement(UPDATE, params![tenant, id, name, login]).expect_one()
}

pub(crate) fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id])
}

pub(crate) fn delete_all(tenant: &str) -> Statement {
    statement(DELETE_ALL, params![tenant])
}
