//! Rows of shapes: sets of attribute names and the number of devices that have exactly this set.

use ambidex_db::{Db, DbError, Statement, params, statement};

const ENTER: &str = "INSERT INTO inventory_shapes (tenant_id, shape, devices, names) VALUES ($1, $2, 1, $3) \
    ON CONFLICT (tenant_id, shape) DO UPDATE SET devices = inventory_shapes.devices + 1";
const LEAVE: &str =
    "UPDATE inventory_shapes SET devices = devices - 1 WHERE tenant_id = $1 AND shape = $2";
const SWEEP: &str =
    "DELETE FROM inventory_shapes WHERE tenant_id = $1 AND shape = $2 AND devices <= 0";
const ALL: &str = "SELECT names, devices FROM inventory_shapes WHERE tenant_id = $1";
const COUNT: &str = "SELECT COUNT(*) FROM inventory_devices WHERE tenant_id = $1";
const COUNT_STATUS: &str =
    "SELECT COUNT(*) FROM inventory_devices WHERE tenant_id = $1 AND status > ''";
const COUNT_GROUP: &str =
    "SELECT COUNT(*) FROM inventory_devices WHERE tenant_id = $1 AND group_name > ''";
const COUNT_SEEN: &str =
    "SELECT COUNT(*) FROM inventory_devices WHERE tenant_id = $1 AND check_in_ms > 0";

/// Devices that have the attributes which are columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnCounts {
    pub devices: u64,
    pub with_status: u64,
    pub with_group: u64,
    pub seen: u64,
}

/// One more device has these names.
pub fn enter(tenant: &str, shape: &str, names: &str) -> Statement {
    statement(ENTER, params![tenant, shape, names])
}

/// One device less has the names of this shape.
pub fn leave(tenant: &str, shape: &str) -> [Statement; 2] {
    [
        statement(LEAVE, params![tenant, shape]),
        statement(SWEEP, params![tenant, shape]),
    ]
}

/// Names (as JSON) and devices of each shape.
pub async fn all(db: &Db, tenant: &str) -> Result<Vec<(String, u64)>, DbError> {
    db.query(ALL, params![tenant])
        .await?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

pub async fn column_counts(db: &Db, tenant: &str) -> Result<ColumnCounts, DbError> {
    let mut counts = [0; 4];
    for (count, sql) in counts
        .iter_mut()
        .zip([COUNT, COUNT_STATUS, COUNT_GROUP, COUNT_SEEN])
    {
        let rows = db.query(sql, params![tenant]).await?;
        *count = rows.first().map_or(Ok(0), |row| row.get(0))?;
    }
    let [devices, with_status, with_group, seen] = counts;
    Ok(ColumnCounts {
        devices,
        with_status,
        with_group,
        seen,
    })
}
