//! Logs that devices uploaded.

use ambidex_access::TenantId;
use ambidex_db::{Db, params, statement};
use ambidex_wire::deployments::LogMessage;

use super::{json, to_json};
use crate::error::Error;

pub const FIND: &str = "SELECT l.messages FROM deployments d JOIN deployment_logs l \
     ON l.tenant_id = d.tenant_id AND l.deployment_number = d.number \
     WHERE d.tenant_id = $1 AND d.id = $2 AND l.device_id = $3";

const SAVE: &str = "INSERT INTO deployment_logs (tenant_id, deployment_number, device_id, messages) \
     VALUES ($1, $2, $3, $4) \
     ON CONFLICT (tenant_id, deployment_number, device_id) DO UPDATE SET messages = excluded.messages";

const MARK: &str = "UPDATE deployment_devices SET has_log = 1 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND state IN (1, 2)";

/// The log of a device in a deployment.
pub async fn find(
    db: &Db,
    tenant: &TenantId,
    deployment_id: &str,
    device_id: &str,
) -> Result<Option<Vec<LogMessage>>, Error> {
    db.point(FIND, &params![tenant.as_str(), deployment_id, device_id])
        .await?
        .map(|row| json("deployment_logs.messages", row.text(0)?))
        .transpose()
}

/// Writes a log over an older one.
pub async fn save(
    db: &Db,
    tenant: &TenantId,
    number: i64,
    device_id: &str,
    messages: &[LogMessage],
) -> Result<(), Error> {
    db.apply(vec![
        statement(MARK, params![tenant.as_str(), number, device_id]).expect_one(),
        statement(
            SAVE,
            params![tenant.as_str(), number, device_id, to_json(&messages)?],
        ),
    ])
    .await?;
    Ok(())
}
