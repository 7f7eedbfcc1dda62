use ambidex_db::{Db, DbError, Row, Statement, params, statement};

use super::containing;
use crate::domain::{Pending, Plan, Status, Tenant};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.name, t.status, t.plan, t.trial, t.trial_expiration_ms, t.addons, t.api_limits,
                t.token, t.created_ms, t.ended_ms, t.cancel_at_ms, t.cancel_reason, t.requested_plan,
                t.pending, t.version ",
            $rest
        )
    };
}

const BY_ID: &str = select!("FROM tenantadm_tenants t WHERE t.id = $1");

const BY_USER: &str = select!(
    "FROM tenantadm_users u JOIN tenantadm_tenants t ON t.id = u.tenant_id WHERE u.name = $1"
);

const LIST: &str =
    select!("FROM tenantadm_tenants t ORDER BY t.created_ms, t.id LIMIT $2 OFFSET $1");

const SEARCH: &str = select!(
    "FROM tenantadm_tenants t
    WHERE t.id = $3 OR LOWER(t.name) LIKE $4 ESCAPE '\\' OR t.id IN (
        SELECT tenant_id FROM tenantadm_users WHERE name LIKE $4 ESCAPE '\\')
    ORDER BY t.created_ms, t.id LIMIT $2 OFFSET $1"
);

/// Active accounts whose trial or notice is over.
const DUE: &str = "SELECT id FROM tenantadm_tenants
    WHERE status = 'active' AND ((trial = 1 AND trial_expiration_ms <= $1 AND trial_expiration_ms <> ended_ms)
        OR cancel_at_ms <= $1)
    ORDER BY id LIMIT 1000";

const PENDING: &str = "SELECT id FROM tenantadm_tenants WHERE pending <> 0 AND pending_ms <= $1
    ORDER BY pending_ms LIMIT 1000";

const INSERT: &str = "INSERT INTO tenantadm_tenants
    (id, name, status, plan, trial, trial_expiration_ms, addons, api_limits, token, created_ms,
        requested_plan, pending, pending_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $10)";

/// Guarded by the version that was read, so that of two changes at the same time one is told to look
/// again.
const UPDATE: &str = "UPDATE tenantadm_tenants
    SET name = $3, status = $4, plan = $5, trial = $6, trial_expiration_ms = $7, addons = $8, api_limits = $9,
        ended_ms = $10, cancel_at_ms = $11, cancel_reason = $12, requested_plan = $13, pending = $14,
        pending_ms = $15, version = version + 1
    WHERE id = $1 AND version = $2";

const FINISHED: &str = "UPDATE tenantadm_tenants SET pending = 0 WHERE id = $1 AND version = $2";

const DELETE: &str = "DELETE FROM tenantadm_tenants WHERE id = $1";

fn tenant(row: &Row) -> Result<Tenant, DbError> {
    let unknown = |what: &str| DbError::Corrupt(format!("unknown {what} of a tenant"));
    let addons = serde_json::from_str(row.text(6)?).map_err(|_| unknown("addons"))?;
    let api_limits = serde_json::from_str(row.text(7)?).map_err(|_| unknown("limits"))?;
    let requested: Option<String> = row.get(13)?;
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
        ended_ms: row.get(10)?,
        cancel_at_ms: row.get(11)?,
        cancel_reason: row.get(12)?,
        requested_plan: requested.and_then(|name| Plan::parse(&name)),
        pending: Pending(row.get(14)?),
        version: row.get(15)?,
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
            let pattern = containing(&q.to_lowercase());
            db.query(SEARCH, params![offset, limit, q, pattern]).await?
        }
    };
    rows.iter().map(tenant).collect()
}

/// Ids of active accounts whose trial or notice is over at `now_ms`.
pub(crate) async fn due(db: &Db, now_ms: i64) -> Result<Vec<String>, DbError> {
    ids(db.query(DUE, params![now_ms]).await?)
}

/// Ids of tenants that neighbours should have been told of before `since_ms`.
pub(crate) async fn pending(db: &Db, since_ms: i64) -> Result<Vec<String>, DbError> {
    ids(db.query(PENDING, params![since_ms]).await?)
}

fn ids(rows: Vec<Row>) -> Result<Vec<String>, DbError> {
    rows.iter().map(|row| row.get(0)).collect()
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
            new.requested_plan.map(Plan::name),
            new.pending.0,
        ],
    )
}

pub(crate) fn update(new: &Tenant, now_ms: i64) -> Statement {
    statement(
        UPDATE,
        params![
            new.id.as_str(),
            new.version,
            new.name.as_str(),
            new.status.name(),
            new.plan.name(),
            new.trial,
            new.trial_expiration_ms,
            text(&new.addons),
            text(&new.api_limits),
            new.ended_ms,
            new.cancel_at_ms,
            new.cancel_reason.clone(),
            new.requested_plan.map(Plan::name),
            new.pending.0,
            now_ms,
        ],
    )
    .expect_one()
}

/// All neighbours know of this version.
pub(crate) fn finished(id: &str, version: i64) -> Statement {
    statement(FINISHED, params![id, version]).expect_one()
}

pub(crate) fn delete(id: &str) -> Statement {
    statement(DELETE, params![id])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[BY_ID, BY_USER];
