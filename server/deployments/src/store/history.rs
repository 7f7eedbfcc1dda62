//! What a device has been through.

use std::fmt::Write as _;

use ambidex_access::TenantId;
use ambidex_db::{Db, Row, Statement, params, statement};
use ambidex_wire::deployments::DeviceStatus;

use super::device::{Shown, StatusFilter, shown, shown_columns, status};
use crate::error::Error;

/// The last deployment that a device has finished.
pub const LAST: &str = "SELECT d.id, dd.status FROM deployment_devices dd CROSS JOIN deployments d \
     WHERE dd.tenant_id = $1 AND dd.device_id = $2 AND dd.state = 2 \
     AND d.tenant_id = dd.tenant_id AND d.number = dd.deployment_number \
     ORDER BY dd.place DESC LIMIT 1";

/// Finished parts of a device, and whether their deployments go on.
pub const DONE: &str = "SELECT dd.deployment_number, dd.status, d.active, d.dynamic, dd.has_log, \
     dd.artifact_size_bytes \
     FROM deployment_devices dd CROSS JOIN deployments d \
     WHERE dd.tenant_id = $1 AND dd.device_id = $2 AND dd.state = 2 \
     AND d.tenant_id = dd.tenant_id AND d.number = dd.deployment_number \
     ORDER BY dd.place LIMIT 100";

const FORGET: &str = "UPDATE deployment_devices SET state = 4, deleted_ms = $5 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND status = $4 \
     AND state = 2";

const WAIT_AGAIN: &str = "UPDATE deployment_devices SET state = 0, status = 'pending', \
     offered = 0, attempts = 0, has_log = 0, place = 0, device_type = NULL, artifact_id = NULL, \
     artifact_size_bytes = NULL, started_ms = NULL, finished_ms = NULL, substate = NULL \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND status = $4 \
     AND state = 2";

const LEAVE: &str = "DELETE FROM deployment_devices \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND status = $4 \
     AND state = 2";

const DELETE_LOG: &str = "DELETE FROM deployment_logs \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3";

/// A part of a device's past: which deployment, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub deployment_id: String,
    pub shown: Shown,
}

/// A page of a device's past, newest first, and how long it is in all.
pub async fn page(
    db: &Db,
    tenant: &TenantId,
    device_id: &str,
    filter: &StatusFilter,
    limit: u64,
    offset: u64,
) -> Result<(Vec<Entry>, u64), Error> {
    let mut params = params![tenant.as_str(), device_id];
    let mut conditions = "dd.tenant_id = $1 AND dd.device_id = $2 AND dd.state IN (1, 2) \
         AND d.tenant_id = dd.tenant_id AND d.number = dd.deployment_number"
        .to_owned();
    filter.restrict(&mut conditions, &mut params);
    const FROM: &str = "FROM deployment_devices dd CROSS JOIN deployments d";
    let total = db
        .query(
            format!("SELECT COUNT(*) {FROM} WHERE {conditions}"),
            params.clone(),
        )
        .await?
        .first()
        .map(|row| row.get(0))
        .transpose()?
        .unwrap_or(0);
    let _ = write!(
        conditions,
        " ORDER BY d.place DESC LIMIT ${} OFFSET ${}",
        params.len() + 1,
        params.len() + 2
    );
    params.extend(params![limit, offset]);
    let sql = format!(
        concat!("SELECT ", shown_columns!(), ", d.id {} WHERE {}"),
        FROM, conditions
    );
    let entries = db
        .query(sql, params)
        .await?
        .iter()
        .map(entry)
        .collect::<Result<_, _>>()?;
    Ok((entries, total))
}

fn entry(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        shown: shown(row)?,
        deployment_id: row.get(13)?,
    })
}

/// Ids of deployments that target any of these devices, newest first.
pub async fn targeting(
    db: &Db,
    tenant: &TenantId,
    device_ids: &[String],
    limit: u64,
) -> Result<Vec<String>, Error> {
    if device_ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = params![tenant.as_str(), limit];
    let numbers: Vec<String> = device_ids
        .iter()
        .map(|id| {
            params.push(id.into());
            format!("${}", params.len())
        })
        .collect();
    let sql = format!(
        "SELECT d.id FROM deployments d WHERE d.tenant_id = $1 AND d.published = 1 \
         AND d.number IN (SELECT dd.deployment_number FROM deployment_devices dd \
         WHERE dd.tenant_id = $1 AND dd.device_id IN ({})) ORDER BY d.number DESC LIMIT $2",
        numbers.join(", ")
    );
    db.query(sql, params)
        .await?
        .iter()
        .map(|row| Ok(row.get(0)?))
        .collect()
}

/// One device's part in one deployment, if the device has asked for it.
pub async fn find(
    db: &Db,
    tenant: &TenantId,
    deployment_id: &str,
    device_id: &str,
) -> Result<Option<Entry>, Error> {
    const SQL: &str = concat!(
        "SELECT ",
        shown_columns!(),
        ", d.id FROM deployments d JOIN deployment_devices dd \
         ON dd.tenant_id = d.tenant_id AND dd.deployment_number = d.number \
         WHERE d.tenant_id = $1 AND d.id = $2 AND d.published = 1 AND dd.device_id = $3 \
         AND dd.state IN (1, 2, 4)"
    );
    db.point(SQL, &params![tenant.as_str(), deployment_id, device_id])
        .await?
        .as_ref()
        .map(entry)
        .transpose()
}

/// The last deployment that a device has finished, and how.
pub async fn last(
    db: &Db,
    tenant: &TenantId,
    device_id: &str,
) -> Result<Option<(String, DeviceStatus)>, Error> {
    db.point(LAST, &params![tenant.as_str(), device_id])
        .await?
        .map(|row| Ok((row.get(0)?, status(row.text(1)?)?)))
        .transpose()
}

/// A finished part of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub number: i64,
    pub status: DeviceStatus,
    pub active: bool,
    pub dynamic: bool,
    pub has_log: bool,
    pub size_bytes: Option<u64>,
}

/// The first 100 finished parts of a device.
pub async fn done(db: &Db, tenant: &TenantId, device_id: &str) -> Result<Vec<Done>, Error> {
    db.points(DONE, &params![tenant.as_str(), device_id])
        .await?
        .iter()
        .map(|row| {
            Ok(Done {
                number: row.get(0)?,
                status: status(row.text(1)?)?,
                active: row.get(2)?,
                dynamic: row.get(3)?,
                has_log: row.get(4)?,
                size_bytes: row.get(5)?,
            })
        })
        .collect()
}

/// Takes a part of a finished deployment out of the device's past.
pub fn forget(tenant: &TenantId, done: &Done, device_id: &str, now_ms: i64) -> Statement {
    let status = done.status.as_str();
    let params = params![tenant.as_str(), done.number, device_id, status, now_ms];
    statement(FORGET, params).expect_one()
}

/// Lets the device take part in an unfinished deployment as if it never had.
pub fn start_over(tenant: &TenantId, done: &Done, device_id: &str) -> [Statement; 2] {
    let sql = if done.dynamic { LEAVE } else { WAIT_AGAIN };
    let status = done.status.as_str();
    [
        statement(
            sql,
            params![tenant.as_str(), done.number, device_id, status],
        )
        .expect_one(),
        statement(DELETE_LOG, params![tenant.as_str(), done.number, device_id]),
    ]
}
