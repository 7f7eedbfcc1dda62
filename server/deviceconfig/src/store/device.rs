use ambidex_db::{Db, DbError, Statement, params, statement};
use ambidex_wire::management::deviceconfig::Configuration;

const INSERT: &str = "INSERT INTO deviceconfig_devices (tenant_id, id, configured, reported, updated_ms) \
    VALUES ($1, $2, $3, '{}', $4)";
const CONFIGURE: &str = "INSERT INTO deviceconfig_devices (tenant_id, id, configured, reported, updated_ms) \
    VALUES ($1, $2, $3, '{}', $4) \
    ON CONFLICT (tenant_id, id) DO UPDATE SET configured = excluded.configured, updated_ms = excluded.updated_ms";
const RECONFIGURE: &str = "UPDATE deviceconfig_devices SET configured = $3, updated_ms = $4 \
    WHERE tenant_id = $1 AND id = $2 AND configured = $5";
const REPORT: &str = "INSERT INTO deviceconfig_devices (tenant_id, id, configured, reported, updated_ms, reported_ms) \
    VALUES ($1, $2, '{}', $3, $4, $4) \
    ON CONFLICT (tenant_id, id) DO UPDATE SET reported = excluded.reported, reported_ms = excluded.reported_ms";
const DEPLOYED: &str =
    "UPDATE deviceconfig_devices SET deployment_id = $3 WHERE tenant_id = $1 AND id = $2";
const BY_ID: &str = "SELECT configured, reported, deployment_id, updated_ms, reported_ms \
    FROM deviceconfig_devices WHERE tenant_id = $1 AND id = $2";
const DELETE: &str = "DELETE FROM deviceconfig_devices WHERE tenant_id = $1 AND id = $2";
const DELETE_TENANT: &str = "DELETE FROM deviceconfig_devices WHERE tenant_id = $1";

/// A device with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRow {
    pub(crate) configured: Configuration,
    pub(crate) reported: Configuration,
    pub(crate) deployment_id: Option<String>,
    pub(crate) updated_ms: i64,
    pub(crate) reported_ms: Option<i64>,
}

fn text(configuration: &Configuration) -> String {
    // A map of texts always serialises.
    serde_json::to_string(configuration).unwrap_or_default()
}

fn configuration(text: &str) -> Result<Configuration, DbError> {
    serde_json::from_str(text)
        .map_err(|error| DbError::Other(format!("a stored configuration cannot be read: {error}")))
}

pub(crate) async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<DeviceRow>, DbError> {
    let Some(row) = db.point(BY_ID, &params![tenant, id]).await? else {
        return Ok(None);
    };
    Ok(Some(DeviceRow {
        configured: configuration(row.text(0)?)?,
        reported: configuration(row.text(1)?)?,
        deployment_id: row.get(2)?,
        updated_ms: row.get(3)?,
        reported_ms: row.get(4)?,
    }))
}

pub(crate) fn insert(tenant: &str, id: &str, configured: &Configuration, now_ms: i64) -> Statement {
    statement(INSERT, params![tenant, id, text(configured), now_ms])
}

pub(crate) fn configure(
    tenant: &str,
    id: &str,
    configured: &Configuration,
    now_ms: i64,
) -> Statement {
    statement(CONFIGURE, params![tenant, id, text(configured), now_ms])
}

/// Only if the configuration is still `old`.
pub(crate) fn reconfigure(
    tenant: &str,
    id: &str,
    old: &Configuration,
    new: &Configuration,
    now_ms: i64,
) -> Statement {
    let params = params![tenant, id, text(new), now_ms, text(old)];
    statement(RECONFIGURE, params).expect_one()
}

pub(crate) fn report(tenant: &str, id: &str, reported: &Configuration, now_ms: i64) -> Statement {
    statement(REPORT, params![tenant, id, text(reported), now_ms])
}

/// Fails the batch when the device is gone.
pub(crate) fn deployed(tenant: &str, id: &str, deployment_id: &str) -> Statement {
    statement(DEPLOYED, params![tenant, id, deployment_id]).expect_one()
}

pub(crate) fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id])
}

pub(crate) fn delete_tenant(tenant: &str) -> Statement {
    statement(DELETE_TENANT, params![tenant])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[BY_ID, RECONFIGURE, DEPLOYED, DELETE, DELETE_TENANT];
