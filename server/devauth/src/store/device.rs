//! Rows of devices.

use ambidex_db::{Db, DbError, Row, Statement, Value, params, statement};

use super::placeholders;
use crate::domain::status::DeviceStatus;

/// A device without its sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    pub id: String,
    pub status: DeviceStatus,
    /// Starts at 1 and grows with each change.
    pub revision: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    /// 0 when the device never used a token.
    pub check_in_ms: i64,
    /// Canonical text of the identity.
    pub identity: String,
}

/// Which devices a listing shows; empty lists select all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceSelection {
    pub statuses: Vec<String>,
    pub ids: Vec<String>,
}

macro_rules! columns {
    () => {
        "id, status, revision, created_ms, updated_ms, check_in_ms, identity_data"
    };
}

pub(crate) const BY_ID: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM devauth_devices WHERE tenant_id = $1 AND id = $2"
);
pub(crate) const BY_IDENTITY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM devauth_devices WHERE tenant_id = $1 AND identity_hash = $2"
);
const INSERT: &str = "INSERT INTO devauth_devices \
    (tenant_id, id, status, revision, created_ms, updated_ms, check_in_ms, identity_hash, identity_data) \
    VALUES ($1, $2, $3, 1, $4, $4, 0, $5, $6)";
const UPDATE: &str = "UPDATE devauth_devices SET status = $4, revision = revision + 1, updated_ms = $5 \
    WHERE tenant_id = $1 AND id = $2 AND revision = $3";
const DELETE: &str =
    "DELETE FROM devauth_devices WHERE tenant_id = $1 AND id = $2 AND revision = $3";
const CHECK_IN: &str = "UPDATE devauth_devices SET check_in_ms = $3 WHERE tenant_id = $1 AND id = $2 AND check_in_ms < $3";

fn map(row: &Row) -> Result<DeviceRow, DbError> {
    let status = row.text(1)?;
    Ok(DeviceRow {
        id: row.get(0)?,
        status: DeviceStatus::parse(status)
            .ok_or_else(|| DbError::Corrupt(format!("unknown device status {status:?}")))?,
        revision: row.get(2)?,
        created_ms: row.get(3)?,
        updated_ms: row.get(4)?,
        check_in_ms: row.get(5)?,
        identity: row.get(6)?,
    })
}

pub async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<DeviceRow>, DbError> {
    db.point(BY_ID, &params![tenant, id])
        .await?
        .as_ref()
        .map(map)
        .transpose()
}

pub async fn by_identity(
    db: &Db,
    tenant: &str,
    identity_hash: &str,
) -> Result<Option<DeviceRow>, DbError> {
    db.point(BY_IDENTITY, &params![tenant, identity_hash])
        .await?
        .as_ref()
        .map(map)
        .transpose()
}

/// Devices by age, `limit` of them from `offset` on.
pub async fn list(
    db: &Db,
    tenant: &str,
    selection: &DeviceSelection,
    limit: u64,
    offset: u64,
) -> Result<Vec<DeviceRow>, DbError> {
    let mut sql = String::from(concat!(
        "SELECT ",
        columns!(),
        " FROM devauth_devices WHERE tenant_id = $1"
    ));
    let mut values = params![tenant];
    for (column, wanted) in [("status", &selection.statuses), ("id", &selection.ids)] {
        match wanted.as_slice() {
            [] => {}
            // An equality keeps the index order, a list does not.
            [only] => {
                sql.push_str(&format!(" AND {column} = ${}", values.len() + 1));
                values.push(Value::from(only.as_str()));
            }
            many => {
                sql.push_str(&format!(
                    " AND {column} IN ({})",
                    placeholders(values.len() + 1, many.len())
                ));
                values.extend(many.iter().map(|value| Value::from(value.as_str())));
            }
        }
    }
    sql.push_str(&format!(
        " ORDER BY created_ms, id LIMIT ${} OFFSET ${}",
        values.len() + 1,
        values.len() + 2
    ));
    values.push(Value::from(limit));
    values.push(Value::from(offset));
    db.query(sql, values).await?.iter().map(map).collect()
}

pub fn insert(
    tenant: &str,
    id: &str,
    status: DeviceStatus,
    now_ms: i64,
    identity_hash: &str,
    identity: &str,
) -> Statement {
    statement(
        INSERT,
        params![tenant, id, status.as_str(), now_ms, identity_hash, identity],
    )
}

/// Changes the status and counts the revision up, if nobody did so before.
pub fn update(tenant: &str, device: &DeviceRow, status: DeviceStatus, now_ms: i64) -> Statement {
    statement(
        UPDATE,
        params![
            tenant,
            device.id.as_str(),
            device.revision,
            status.as_str(),
            now_ms
        ],
    )
    .expect_one()
}

/// Removes the device, if nobody changed it meanwhile.
pub fn delete(tenant: &str, device: &DeviceRow) -> Statement {
    statement(DELETE, params![tenant, device.id.as_str(), device.revision]).expect_one()
}

pub fn check_in(tenant: &str, id: &str, check_in_ms: i64) -> Statement {
    statement(CHECK_IN, params![tenant, id, check_in_ms])
}
