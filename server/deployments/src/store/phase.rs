//! Phases of deployments.

use ambidex_access::TenantId;
use ambidex_db::{Db, Row, Statement, Value, params, statement};

use crate::domain::phase::Phase;
use crate::error::Error;

pub const LIST: &str = "SELECT id, batch_size, starts_ms, capacity, device_count \
     FROM deployment_phases WHERE tenant_id = $1 AND deployment_number = $2 ORDER BY position";

const INSERT: &str = "INSERT INTO deployment_phases \
     (tenant_id, deployment_number, position, id, batch_size, starts_ms, capacity, device_count) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, 0)";

/// Taking a place is conditional: parallel polls never exceed the capacity.
const ENTER: &str = "UPDATE deployment_phases SET device_count = device_count + 1 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND position = $3 \
     AND device_count < capacity AND starts_ms <= $4";

const DELETE: &str =
    "DELETE FROM deployment_phases WHERE tenant_id = $1 AND deployment_number = $2";

fn from_row(row: &Row) -> Result<Phase, Error> {
    Ok(Phase {
        id: row.get(0)?,
        batch_size: row.get(1)?,
        starts_ms: row.get(2)?,
        capacity: row.get(3)?,
        device_count: row.get(4)?,
    })
}

/// The phases of a deployment in order; at most 100, as each takes at least one percent.
pub async fn list(db: &Db, tenant: &TenantId, number: i64) -> Result<Vec<Phase>, Error> {
    db.points(LIST, &params![tenant.as_str(), number])
        .await?
        .iter()
        .map(from_row)
        .collect()
}

/// Parameters and text for writing a phase inside a transaction.
pub fn insert(
    tenant: &TenantId,
    number: i64,
    position: usize,
    phase: &Phase,
) -> (&'static str, Vec<Value>) {
    let params = params![
        tenant.as_str(),
        number,
        position,
        &phase.id,
        phase.batch_size,
        phase.starts_ms,
        phase.capacity,
    ];
    (INSERT, params)
}

/// Takes a place in a phase; the batch fails when there is none left.
pub fn enter(tenant: &TenantId, number: i64, position: usize, now_ms: i64) -> Statement {
    statement(ENTER, params![tenant.as_str(), number, position, now_ms]).expect_one()
}

/// Forgets the phases of a deployment.
pub fn delete(tenant: &TenantId, number: i64) -> Statement {
    statement(DELETE, params![tenant.as_str(), number])
}
