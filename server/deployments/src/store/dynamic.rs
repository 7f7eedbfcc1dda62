//! Deployments for whatever devices meet a filter: a device gets its row when it is taken up.

use ambidex_access::TenantId;
use ambidex_db::{Db, Row, Statement, params, statement};
use ambidex_wire::deployments::DeviceStatus;

use super::device::{Open, TakenUp};
use crate::domain::device::State;
use crate::error::Error;

/// Candidates that one read brings.
pub const CANDIDATES_MAX: usize = 20;

/// Deployments that the device may still join, oldest first: those after the last one it has finished,
/// with room left. `$4` and `$5` bound the places.
pub const CANDIDATES: &str = "SELECT d.number, d.id, d.place, d.artifact_name, \
     d.force_installation, d.phased, d.control_map, d.filter \
     FROM deployments d \
     WHERE d.tenant_id = $1 AND d.dynamic = 1 AND d.active = 1 AND d.published = 1 \
     AND d.starts_ms <= $3 AND d.place > $4 AND d.place < $5 \
     AND (d.max_devices = 0 OR d.device_count < d.max_devices) \
     AND d.place > COALESCE((SELECT MAX(w.place) FROM deployment_devices w \
     WHERE w.tenant_id = $1 AND w.device_id = $2 AND w.state = 2), 0) \
     ORDER BY d.place LIMIT 20";

const JOIN: &str = "INSERT INTO deployment_devices (tenant_id, deployment_number, device_id, state, \
     place, status, offered, attempts, has_log, device_type, artifact_id, artifact_size_bytes, \
     finished_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $9, $10, $11)";

/// A deployment that a device may join, and the conditions for it as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub open: Open,
    pub filter: String,
}

fn from_row(row: &Row) -> Result<Candidate, Error> {
    Ok(Candidate {
        open: Open {
            number: row.get(0)?,
            state: State::Waiting,
            status: DeviceStatus::Pending,
            offered: false,
            device_type: None,
            artifact_id: None,
            deployment_id: row.get(1)?,
            place: row.get(2)?,
            artifact_name: row.get(3)?,
            force_installation: row.get(4)?,
            phased: row.get(5)?,
            attempts: 0,
            dynamic: true,
            configuration: false,
            control_map: row.get(6)?,
        },
        filter: row.get::<Option<String>>(7)?.unwrap_or_default(),
    })
}

/// See [`CANDIDATES`].
pub async fn candidates(
    db: &Db,
    tenant: &TenantId,
    device_id: &str,
    now_ms: i64,
    after_place: i64,
    before_place: i64,
) -> Result<Vec<Candidate>, Error> {
    let params = params![
        tenant.as_str(),
        device_id,
        now_ms,
        after_place,
        before_place
    ];
    db.points(CANDIDATES, &params)
        .await?
        .iter()
        .map(from_row)
        .collect()
}

/// Writes a device's first poll; the batch breaks with a unique violation when it has joined already.
pub fn join(tenant: &TenantId, number: i64, device_id: &str, taken: &TakenUp<'_>) -> Statement {
    let state = State::of(taken.status);
    statement(
        JOIN,
        params![
            tenant.as_str(),
            number,
            device_id,
            state.code(),
            taken.place,
            taken.status.as_str(),
            state == State::Active,
            taken.device_type,
            taken.artifact.map(|(id, _)| id),
            taken.artifact.map(|(_, size_bytes)| size_bytes),
            taken.status.is_final().then_some(taken.now_ms),
        ],
    )
}
