//! Rows of auth sets.

use std::collections::HashMap;

use ambidex_db::{Db, DbError, Row, Statement, Value, params, statement};

use super::placeholders;
use crate::domain::status::SetStatus;

/// One auth set; its identity is the device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRow {
    pub id: String,
    pub device_id: String,
    pub status: SetStatus,
    pub created_ms: i64,
    /// PEM in normal form.
    pub public_key: String,
}

macro_rules! columns {
    () => {
        "id, device_id, status, created_ms, public_key"
    };
}

pub(crate) const BY_ID: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM devauth_auth_sets WHERE tenant_id = $1 AND id = $2"
);
pub(crate) const BY_KEY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM devauth_auth_sets WHERE tenant_id = $1 AND device_id = $2 AND key_hash = $3"
);
pub(crate) const OF_DEVICE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM devauth_auth_sets WHERE tenant_id = $1 AND device_id = $2 ORDER BY created_ms, id"
);
const OF_DEVICES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM devauth_auth_sets WHERE tenant_id = $1 AND device_id IN ("
);
const INSERT: &str = "INSERT INTO devauth_auth_sets (tenant_id, id, device_id, status, created_ms, key_hash, public_key) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const UPDATE: &str = "UPDATE devauth_auth_sets SET status = $3 WHERE tenant_id = $1 AND id = $2";
const DELETE: &str = "DELETE FROM devauth_auth_sets WHERE tenant_id = $1 AND id = $2";
const DELETE_OF_DEVICE: &str =
    "DELETE FROM devauth_auth_sets WHERE tenant_id = $1 AND device_id = $2";

fn map(row: &Row) -> Result<SetRow, DbError> {
    let status = row.text(2)?;
    Ok(SetRow {
        id: row.get(0)?,
        device_id: row.get(1)?,
        status: SetStatus::parse(status)
            .ok_or_else(|| DbError::Corrupt(format!("unknown auth set status {status:?}")))?,
        created_ms: row.get(3)?,
        public_key: row.get(4)?,
    })
}

pub async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<SetRow>, DbError> {
    db.point(BY_ID, &params![tenant, id])
        .await?
        .as_ref()
        .map(map)
        .transpose()
}

pub async fn by_key(
    db: &Db,
    tenant: &str,
    device_id: &str,
    key_hash: &str,
) -> Result<Option<SetRow>, DbError> {
    db.point(BY_KEY, &params![tenant, device_id, key_hash])
        .await?
        .as_ref()
        .map(map)
        .transpose()
}

/// The sets of one device by age: a handful, through an index.
pub async fn of_device(db: &Db, tenant: &str, device_id: &str) -> Result<Vec<SetRow>, DbError> {
    db.points(OF_DEVICE, &params![tenant, device_id])
        .await?
        .iter()
        .map(map)
        .collect()
}

/// The sets of a page of devices, by device.
pub async fn of_devices(
    db: &Db,
    tenant: &str,
    ids: &[&str],
) -> Result<HashMap<String, Vec<SetRow>>, DbError> {
    let mut sets: HashMap<String, Vec<SetRow>> = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(sets);
    }
    let sql = format!(
        "{OF_DEVICES}{}) ORDER BY created_ms, id",
        placeholders(2, ids.len())
    );
    let mut values = params![tenant];
    values.extend(ids.iter().map(|id| Value::from(*id)));
    for row in db.query(sql, values).await? {
        let set = map(&row)?;
        sets.entry(set.device_id.clone()).or_default().push(set);
    }
    Ok(sets)
}

pub fn insert(tenant: &str, set: &SetRow, key_hash: &str) -> Statement {
    statement(
        INSERT,
        params![
            tenant,
            set.id.as_str(),
            set.device_id.as_str(),
            set.status.as_str(),
            set.created_ms,
            key_hash,
            set.public_key.as_str()
        ],
    )
}

pub fn update(tenant: &str, id: &str, status: SetStatus) -> Statement {
    statement(UPDATE, params![tenant, id, status.as_str()]).expect_one()
}

pub fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id]).expect_one()
}

pub fn delete_of_device(tenant: &str, device_id: &str) -> Statement {
    statement(DELETE_OF_DEVICE, params![tenant, device_id])
}
