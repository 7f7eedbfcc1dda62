//! Which deployments a user sees whose roles are limited to groups.

use std::fmt::Write as _;

use ambidex_access::TenantId;
use ambidex_db::{Db, Statement, Value, params, statement};

use crate::domain::deployment::Visible;
use crate::error::Error;

const INSERT: &str = "INSERT INTO deployment_groups (tenant_id, deployment_number, group_name) \
     VALUES ($1, $2, $3) ON CONFLICT (tenant_id, deployment_number, group_name) DO NOTHING";

const DELETE: &str =
    "DELETE FROM deployment_groups WHERE tenant_id = $1 AND deployment_number = $2";

pub const LIST: &str = "SELECT group_name FROM deployment_groups \
     WHERE tenant_id = $1 AND deployment_number = $2 ORDER BY group_name";

/// Text and parameters that note the group of a deployment's targets.
pub fn insert(tenant: &TenantId, number: i64, group: &str) -> (&'static str, Vec<Value>) {
    (INSERT, params![tenant.as_str(), number, group])
}

/// Forgets the groups of a deployment.
pub fn delete(tenant: &TenantId, number: i64) -> Statement {
    statement(DELETE, params![tenant.as_str(), number])
}

/// The groups of a deployment's targets, as far as they are known.
pub async fn list(db: &Db, tenant: &TenantId, number: i64) -> Result<Vec<String>, Error> {
    db.points(LIST, &params![tenant.as_str(), number])
        .await?
        .iter()
        .map(|row| Ok(row.get(0)?))
        .collect()
}

/// A condition on `deployments`: all targets are in these groups, or the only target is one of these
/// devices.
pub fn visible(params: &mut Vec<Value>, to: &Visible) -> String {
    let mut bind = |values: &[String]| -> String {
        let numbers: Vec<String> = values
            .iter()
            .map(|value| {
                params.push(value.into());
                format!("${}", params.len())
            })
            .collect();
        numbers.join(", ")
    };
    const OF: &str = "g.tenant_id = deployments.tenant_id \
         AND g.deployment_number = deployments.number";
    let mut text = String::from(" AND (");
    if to.groups.is_empty() {
        text.push_str("1 = 0");
    } else {
        let groups = bind(&to.groups);
        let _ = write!(
            text,
            "(EXISTS (SELECT 1 FROM deployment_groups g WHERE {OF}) \
             AND NOT EXISTS (SELECT 1 FROM deployment_groups g WHERE {OF} \
             AND g.group_name NOT IN ({groups})))"
        );
    }
    if !to.devices.is_empty() {
        let devices = bind(&to.devices);
        let _ = write!(
            text,
            " OR (deployments.target_count = 1 AND deployments.dynamic = 0 \
             AND EXISTS (SELECT 1 FROM deployment_devices dd \
             WHERE dd.tenant_id = deployments.tenant_id \
             AND dd.deployment_number = deployments.number AND dd.device_id IN ({devices})))"
        );
    }
    text.push(')');
    text
}
