//! Groups: the distinct values of the devices' group column.

use ambidex_db::{Db, DbError, Statement, Value, params, statement};

use super::placeholders;

/// Steps from name to name through the index, however many devices a group has.
pub(crate) const NAMES: &str = "WITH RECURSIVE names (name) AS ( \
    SELECT (SELECT group_name FROM inventory_devices WHERE tenant_id = $1 AND group_name > '' ORDER BY group_name LIMIT 1) \
    UNION ALL \
    SELECT (SELECT d.group_name FROM inventory_devices d WHERE d.tenant_id = $1 AND d.group_name > names.name \
            ORDER BY d.group_name LIMIT 1) \
    FROM names WHERE names.name IS NOT NULL) \
    SELECT name FROM names WHERE name IS NOT NULL";
pub(crate) const NAMES_WITH_STATUS: &str = "WITH RECURSIVE names (name) AS ( \
    SELECT (SELECT group_name FROM inventory_devices WHERE tenant_id = $1 AND group_name > '' ORDER BY group_name LIMIT 1) \
    UNION ALL \
    SELECT (SELECT d.group_name FROM inventory_devices d WHERE d.tenant_id = $1 AND d.group_name > names.name \
            ORDER BY d.group_name LIMIT 1) \
    FROM names WHERE names.name IS NOT NULL) \
    SELECT name FROM names WHERE name IS NOT NULL AND EXISTS \
    (SELECT 1 FROM inventory_devices e WHERE e.tenant_id = $1 AND e.group_name = names.name AND e.status = $2)";
const CLEAR: &str = "UPDATE inventory_devices SET group_name = '' WHERE tenant_id = $1 AND id = $2 AND group_name = $3";
const DISSOLVE: &str =
    "UPDATE inventory_devices SET group_name = '' WHERE tenant_id = $1 AND group_name = $2";

/// Names of groups in order, of devices in any status or in one.
pub async fn names(db: &Db, tenant: &str, status: Option<&str>) -> Result<Vec<String>, DbError> {
    let rows = match status {
        None => db.query(NAMES, params![tenant]).await?,
        Some(status) => db.query(NAMES_WITH_STATUS, params![tenant, status]).await?,
    };
    rows.iter().map(|row| row.get(0)).collect()
}

/// How many of these devices exist.
pub async fn count_existing(db: &Db, tenant: &str, ids: &[String]) -> Result<u64, DbError> {
    let sql = format!(
        "SELECT COUNT(*) FROM inventory_devices WHERE tenant_id = $1 AND id IN ({})",
        placeholders(2, ids.len())
    );
    let mut values = params![tenant];
    values.extend(ids.iter().map(Value::from));
    db.query(sql, values)
        .await?
        .first()
        .map_or(Ok(0), |row| row.get(0))
}

/// Moves devices to a group; counts those that were elsewhere.
pub fn assign(tenant: &str, group: &str, ids: &[String]) -> Statement {
    let sql = format!(
        "UPDATE inventory_devices SET group_name = $2 WHERE tenant_id = $1 AND group_name <> $2 AND id IN ({})",
        placeholders(3, ids.len())
    );
    let mut values = params![tenant, group];
    values.extend(ids.iter().map(Value::from));
    statement(sql, values)
}

/// Takes those of the devices that are in the group out of it.
pub fn clear(tenant: &str, group: &str, ids: &[String]) -> Statement {
    let sql = format!(
        "UPDATE inventory_devices SET group_name = '' WHERE tenant_id = $1 AND group_name = $2 AND id IN ({})",
        placeholders(3, ids.len())
    );
    let mut values = params![tenant, group];
    values.extend(ids.iter().map(Value::from));
    statement(sql, values)
}

/// Takes one device out of one group.
pub fn clear_one(tenant: &str, id: &str, group: &str) -> Statement {
    statement(CLEAR, params![tenant, id, group])
}

/// Takes every device out of a group.
pub fn dissolve(tenant: &str, group: &str) -> Statement {
    statement(DISSOLVE, params![tenant, group])
}
