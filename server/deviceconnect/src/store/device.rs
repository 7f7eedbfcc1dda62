use ambidex_db::{Db, DbError, Row, Statement, params, statement};

/// A device's record together with the last sign of life of the instance that holds its connection.
pub(crate) struct Record {
    pub(crate) connected: bool,
    pub(crate) version: i64,
    pub(crate) connection_id: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) instance_alive_ms: Option<i64>,
}

const GET: &str =
    "SELECT d.connected, d.version, d.connection_id, d.created_ms, d.updated_ms, i.alive_ms
    FROM deviceconnect_devices d
    LEFT JOIN deviceconnect_instances i ON i.instance_id = d.instance_id
    WHERE d.tenant_id = $1 AND d.device_id = $2";

const PROVISION: &str = "INSERT INTO deviceconnect_devices
    (tenant_id, device_id, connected, version, connection_id, instance_id, created_ms, updated_ms)
    VALUES ($1, $2, 0, 0, '', '', $3, $3)
    ON CONFLICT (tenant_id, device_id) DO NOTHING";

/// The newest connection takes the record, whoever held it.
const CLAIM: &str = "INSERT INTO deviceconnect_devices
    (tenant_id, device_id, connected, version, connection_id, instance_id, created_ms, updated_ms)
    VALUES ($1, $2, 1, 1, $3, $4, $5, $5)
    ON CONFLICT (tenant_id, device_id) DO UPDATE SET
        connected = 1,
        version = deviceconnect_devices.version + 1,
        connection_id = excluded.connection_id,
        instance_id = excluded.instance_id,
        updated_ms = excluded.updated_ms";

const RELEASE: &str = "UPDATE deviceconnect_devices SET connected = 0, updated_ms = $4
    WHERE tenant_id = $1 AND device_id = $2 AND connection_id = $3 AND connected = 1";

const REASSERT: &str = "UPDATE deviceconnect_devices SET connected = 1, instance_id = $4
    WHERE tenant_id = $1 AND device_id = $2 AND connection_id = $3";

const RELEASE_INSTANCE: &str = "UPDATE deviceconnect_devices SET connected = 0, updated_ms = $2
    WHERE instance_id = $1 AND connected = 1";

const DELETE: &str = "DELETE FROM deviceconnect_devices WHERE tenant_id = $1 AND device_id = $2";

fn record(row: &Row) -> Result<Record, DbError> {
    Ok(Record {
        connected: row.get(0)?,
        version: row.get(1)?,
        connection_id: row.get(2)?,
        created_ms: row.get(3)?,
        updated_ms: row.get(4)?,
        instance_alive_ms: row.get(5)?,
    })
}

pub(crate) async fn get(db: &Db, tenant: &str, device: &str) -> Result<Option<Record>, DbError> {
    let row = db.point(GET, &params![tenant, device]).await?;
    row.as_ref().map(record).transpose()
}

pub(crate) fn provision(tenant: &str, device: &str, now_ms: i64) -> Statement {
    statement(PROVISION, params![tenant, device, now_ms])
}

pub(crate) fn claim(
    tenant: &str,
    device: &str,
    connection: &str,
    instance: &str,
    now_ms: i64,
) -> Statement {
    statement(CLAIM, params![tenant, device, connection, instance, now_ms])
}

pub(crate) fn release(tenant: &str, device: &str, connection: &str, now_ms: i64) -> Statement {
    statement(RELEASE, params![tenant, device, connection, now_ms])
}

pub(crate) fn reassert(tenant: &str, device: &str, connection: &str, instance: &str) -> Statement {
    statement(REASSERT, params![tenant, device, connection, instance])
}

pub(crate) fn release_instance(instance: &str, now_ms: i64) -> Statement {
    statement(RELEASE_INSTANCE, params![instance, now_ms])
}

pub(crate) fn delete(tenant: &str, device: &str) -> Statement {
    statement(DELETE, params![tenant, device])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[GET];
