//! Numbers of devices by status, moved in the batch of each status change.

use ambidex_db::{Db, DbError, Statement, params, statement};

use crate::domain::status::DeviceStatus;

const ADD: &str = "INSERT INTO devauth_tallies (tenant_id, status, devices) VALUES ($1, $2, 1) \
    ON CONFLICT (tenant_id, status) DO UPDATE SET devices = devauth_tallies.devices + 1";
const SUBTRACT: &str =
    "UPDATE devauth_tallies SET devices = devices - 1 WHERE tenant_id = $1 AND status = $2";
const PREPARE_ACCEPTED: &str = "INSERT INTO devauth_tallies (tenant_id, status, devices) VALUES ($1, 'accepted', 0) \
    ON CONFLICT (tenant_id, status) DO NOTHING";
/// Touches no row when the tenant's limit is reached: the database settles who gets the last place.
const ADD_ACCEPTED: &str = "UPDATE devauth_tallies SET devices = devices + 1 \
    WHERE tenant_id = $1 AND status = 'accepted' AND NOT EXISTS \
    (SELECT 1 FROM devauth_limits WHERE tenant_id = $1 AND name = 'max_devices' AND value > 0 AND value <= devauth_tallies.devices)";
pub(crate) const OF_STATUS: &str =
    "SELECT devices FROM devauth_tallies WHERE tenant_id = $1 AND status = $2";
pub(crate) const OF_ALL: &str = "SELECT devices FROM devauth_tallies WHERE tenant_id = $1";

const OF_EVERYBODY: &str = "SELECT status, CAST(SUM(devices) AS BIGINT) FROM devauth_tallies GROUP BY status ORDER BY status";

pub fn add(tenant: &str, status: DeviceStatus) -> Statement {
    statement(ADD, params![tenant, status.as_str()])
}

pub fn subtract(tenant: &str, status: DeviceStatus) -> Statement {
    statement(SUBTRACT, params![tenant, status.as_str()])
}

/// Must stand before [`add_accepted`] in a batch.
pub fn prepare_accepted(tenant: &str) -> Statement {
    statement(PREPARE_ACCEPTED, params![tenant])
}

/// Counts one more accepted device; conflicts when the device limit is reached.
pub fn add_accepted(tenant: &str) -> Statement {
    statement(ADD_ACCEPTED, params![tenant]).expect_one()
}

/// Devices in one status, or in any.
pub async fn count(db: &Db, tenant: &str, status: Option<DeviceStatus>) -> Result<u64, DbError> {
    match status {
        Some(status) => {
            let row = db
                .point(OF_STATUS, &params![tenant, status.as_str()])
                .await?;
            row.map_or(Ok(0), |row| row.get(0))
        }
        None => db
            .points(OF_ALL, &params![tenant])
            .await?
            .iter()
            .try_fold(0, |sum, row| Ok(sum + row.get::<u64>(0)?)),
    }
}

/// Devices of all tenants by status.
pub async fn of_everybody(db: &Db) -> Result<Vec<(String, u64)>, DbError> {
    let rows = db.query(OF_EVERYBODY, params![]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}
