//! Rows of devices.

use ambidex_db::{Db, DbError, Row, Statement, Value, params, statement};

use super::placeholders;

/// A device with its documents, in the order of `Scope::ALL`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceRow {
    pub id: String,
    /// Guards writers of documents.
    pub version: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    /// 0 for never.
    pub check_in_ms: i64,
    /// Empty when device authentication has not told it.
    pub status: String,
    pub revision: i64,
    /// Empty for none.
    pub group: String,
    /// Names the set of attribute names; empty for no attributes.
    pub shape: String,
    pub documents: [String; 5],
}

macro_rules! columns {
    () => {
        "id, version, created_ms, updated_ms, check_in_ms, status, revision, group_name, shape, identity, inventory, monitor, system, tags"
    };
}

pub(crate) const COLUMNS: &str = columns!();
pub(crate) const BY_ID: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM inventory_devices WHERE tenant_id = $1 AND id = $2"
);
const BY_IDS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM inventory_devices WHERE tenant_id = $1 AND id IN ("
);
/// Does nothing for a device that has left the fleet.
const INSERT: &str = concat!(
    "INSERT INTO inventory_devices (tenant_id, ",
    columns!(),
    ") SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), \
    CAST($6 AS BIGINT), CAST($7 AS TEXT), CAST($8 AS BIGINT), CAST($9 AS TEXT), CAST($10 AS TEXT), CAST($11 AS TEXT), \
    CAST($12 AS TEXT), CAST($13 AS TEXT), CAST($14 AS TEXT), CAST($15 AS TEXT) \
    WHERE NOT EXISTS (SELECT 1 FROM inventory_tombstones WHERE tenant_id = $1 AND id = $2)"
);
const UPDATE_DOCUMENTS: &str = "UPDATE inventory_devices SET version = version + 1, updated_ms = $4, shape = $5, \
    identity = $6, inventory = $7, monitor = $8, system = $9, tags = $10 \
    WHERE tenant_id = $1 AND id = $2 AND version = $3";
const UPDATE_GROUP: &str = "UPDATE inventory_devices SET group_name = $3 WHERE tenant_id = $1 AND id = $2 AND group_name <> $3";
const SET_STATUS: &str =
    "UPDATE inventory_devices SET status = $3 WHERE tenant_id = $1 AND id = $2";
const SET_NEWER_STATUS: &str = "UPDATE inventory_devices SET status = $3, revision = $4 \
    WHERE tenant_id = $1 AND id = $2 AND revision < $4";
const CHECK_IN: &str = "UPDATE inventory_devices SET check_in_ms = $3 WHERE tenant_id = $1 AND id = $2 AND check_in_ms < $3";
const DELETE: &str =
    "DELETE FROM inventory_devices WHERE tenant_id = $1 AND id = $2 AND version = $3";
const BURY: &str = "INSERT INTO inventory_tombstones (tenant_id, id, removed_ms) VALUES ($1, $2, $3) \
    ON CONFLICT (tenant_id, id) DO NOTHING";
const EXHUME: &str = "DELETE FROM inventory_tombstones WHERE tenant_id = $1 AND id = $2";

pub(super) fn map(row: &Row) -> Result<DeviceRow, DbError> {
    Ok(DeviceRow {
        id: row.get(0)?,
        version: row.get(1)?,
        created_ms: row.get(2)?,
        updated_ms: row.get(3)?,
        check_in_ms: row.get(4)?,
        status: row.get(5)?,
        revision: row.get(6)?,
        group: row.get(7)?,
        shape: row.get(8)?,
        documents: [
            row.get(9)?,
            row.get(10)?,
            row.get(11)?,
            row.get(12)?,
            row.get(13)?,
        ],
    })
}

pub async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<DeviceRow>, DbError> {
    db.point(BY_ID, &params![tenant, id])
        .await?
        .as_ref()
        .map(map)
        .transpose()
}

/// The devices that exist among these, in no particular order.
pub async fn by_ids(db: &Db, tenant: &str, ids: &[String]) -> Result<Vec<DeviceRow>, DbError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut values = params![tenant];
    values.extend(ids.iter().map(Value::from));
    db.query(format!("{BY_IDS}{})", placeholders(2, ids.len())), values)
        .await?
        .iter()
        .map(map)
        .collect()
}

/// Conflicts when the device has left the fleet.
pub fn insert(tenant: &str, device: &DeviceRow) -> Statement {
    let [identity, inventory, monitor, system, tags] = &device.documents;
    let values = params![
        tenant,
        &device.id,
        device.version,
        device.created_ms,
        device.updated_ms,
        device.check_in_ms,
        &device.status,
        device.revision,
        &device.group,
        &device.shape,
        identity,
        inventory,
        monitor,
        system,
        tags
    ];
    statement(INSERT, values).expect_one()
}

/// Conflicts when somebody wrote documents since `device` was read. `device` is the row as it shall be.
pub fn update_documents(tenant: &str, device: &DeviceRow) -> Statement {
    let [identity, inventory, monitor, system, tags] = &device.documents;
    let values = params![
        tenant,
        &device.id,
        device.version,
        device.updated_ms,
        &device.shape,
        identity,
        inventory,
        monitor,
        system,
        tags
    ];
    statement(UPDATE_DOCUMENTS, values).expect_one()
}

/// Touches the row only when the group changes.
pub fn update_group(tenant: &str, id: &str, group: &str) -> Statement {
    statement(UPDATE_GROUP, params![tenant, id, group])
}

/// Sets the status, with a revision only if that is newer than the one known.
pub fn update_status(tenant: &str, id: &str, status: &str, revision: Option<i64>) -> Statement {
    match revision {
        Some(revision) => statement(SET_NEWER_STATUS, params![tenant, id, status, revision]),
        None => statement(SET_STATUS, params![tenant, id, status]),
    }
}

pub fn check_in(tenant: &str, id: &str, check_in_ms: i64) -> Statement {
    statement(CHECK_IN, params![tenant, id, check_in_ms])
}

/// Conflicts when somebody wrote documents since `device` was read.
pub fn delete(tenant: &str, device: &DeviceRow) -> Statement {
    statement(DELETE, params![tenant, &device.id, device.version]).expect_one()
}

/// Keeps the device from coming back.
pub fn bury(tenant: &str, id: &str, now_ms: i64) -> Statement {
    statement(BURY, params![tenant, id, now_ms])
}

/// Lets the device come back.
pub fn exhume(tenant: &str, id: &str) -> Statement {
    statement(EXHUME, params![tenant, id])
}
