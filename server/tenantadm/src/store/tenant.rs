use ambidex_db::{Db, DbError, Row, Statement, params, statement};

use super::containing;
use crate::domain::{Plan, Status, Tenant};

const BY_ID: &str = "SELECT id, name, status, plan, trial, trial_expiration_ms, addons, api_limits, token, created_ms
    FROM tenantadm_tenants WHERE id = $1";

const BY_USER: &str =
    "SELECT t.id, t.name, t.status, t.plan, t.trial, t.trial_expiration_ms, t.addons,
        t.api_limits, t.token, t.created_ms
    FROM tenantadm_users u JOIN tenantadm_tenants t ON t.id = u.tenant_id WHERE u.name = $1";

const LIST: &str = "SELECT id, name, status, plan, trial, trial_expiration_ms, addons, api_limits, token, created_ms
    FROM tenantadm_tenants ORDER BY created_ms, id LIMIT $2 OFFSET $1";

const SEARCH: &str = "SELECT id, name, status, plan, trial, trial_expiration_ms, addons, api_limits, token, created_ms
    FROM tenantadm_tenants
    WHERE id = $3 OR name LIKE $4 ESCAPE '\\' OR id IN (
        SELECT tenant_id FROM tenantadm_users WHERE name LIKE $4 ESCAPE '\\')
    ORDER BY created_ms, id LIMIT $2 OFFSET $1";

const INSERT: &str = "INSERT INTO tenantadm_tenants
    (id, name, status, plan, trial, trial_expiration_ms, addons, api_limits, token, created_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// Guarded by what was read, so that of two changes at the same time one is told to look again.
const UPDATE: &str = "UPDATE tenantadm_tenants
    SET name = $2, status = $3, plan = $4, trial = $5, trial_expiration_ms = $6, addons = $7, api_limits = $8
    WHERE id = $1 AND name = $9 AND status = $10 AND plan = $11 AND trial = $12 AND addons = $13
      AND api_limits = $14 AND COALESCE(trial_expiration_ms, -1) = $15";

const DELETE_UNUSED: &str = "DELETE FROM tenantadm_tenants
    WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM tenantadm_users WHERE tenant_id = $1)";

fn tenant(row: &Row) -> Result<Tenant, DbError> {
    let unknown = |what: &str| DbError::Corrupt(format!("unknown {what} of a tenant"));
    let addons = serde_json::from_str(row.text(6)?).map_err(|_| unknown("addons"))?;
    let api_limits = serde_json::from_str(row.text(7)?).map_err(|_| unknown("limits"))?;
    Ok(Tenant {
        id: row.get(0)?,
        name: row.get(1)?,
        status: Status::parse(row.text(2)?).ok_or_else(|| unknown("status"))?,
        plan: Plan::parse(row.text(3)?).ok_or_else(|| unknown("plan"))?,
        trial: row.get(4)?,
        trial_expiration_ms: row.get(5)?,
        addons,
        api_limits,
        token: row.get(8)?,
        created_ms: row.get(9)?,
    })
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(crate) async fn by_id(db: &Db, id: &str) -> Result<Option<Tenant>, DbError> {
    let row = db.point(BY_ID, &params![id]).await?;
    row.as_ref().map(tenant).transpose()
}

pub(crate) async fn by_user(db: &Db, name: &str) -> Result<Option<Tenant>, DbError> {
    let row = db.point(BY_USER, &params![name]).await?;
    row.as_ref().map(tenant).transpose()
}

/// A stretch of the list of tenants; with `q` those whose id it is or whose name or user contains it.
pub(crate) async fn list(
    db: &Db,
    q: Option<&str>,
    offset: u64,
    limit: u64,
) -> Result<Vec<Tenant>, DbError> {
    let rows = match q {
        None => db.query(LIST, params![offset, limit]).await?,
        Some(q) => {
            db.query(SEARCH, params![offset, limit, q, containing(q)])
                .await?
        }
    };
    rows.iter().map(tenant).collect()
}

pub(crate) fn insert(new: &Tenant) -> Statement {
    statement(
        INSERT,
        params![
            new.id.as_str(),
            new.name.as_str(),
            new.status.name(),
            new.plan.name(),
            new.trial,
            new.trial_expiration_ms,
            text(&new.addons),
            text(&new.api_limits),
            new.token.as_str(),
            new.created_ms,
        ],
    )
}

pub(crate) fn update(old: &Tenant, new: &Tenant) -> Statement {
    statement(
        UPDATE,
        params![
            new.id.as_str(),
            new.name.as_str(),
            new.status.name(),
            new.plan.name(),
            new.trial,
            new.trial_expiration_ms,
            text(&new.addons),
            text(&new.api_limits),
            old.name.as_str(),
            old.status.name(),
            old.plan.name(),
            old.trial,
            text(&old.addons),
            text(&old.api_limits),
            old.trial_expiration_ms.unwrap_or(-1),
        ],
    )
    .expect_one()
}

pub(crate) fn delete_unused(id: &str) -> Statement {
    statement(DELETE_UNUSED, params![id])
}
