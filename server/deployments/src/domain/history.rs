//! What a device has been through in deployments.

use ambidex_access::{TenantId, UserIdentity};
use ambidex_wire::deployments::DeviceStatus;
use ambidex_wire::management::deployments::LastStatus;

use super::audit;
use super::deployment::Counts;
use crate::Context;
use crate::error::Error;
use crate::store;
use crate::store::deployment::{Guard, Shift};

/// Devices that one question about last statuses may name.
pub const LAST_IDS_MAX: usize = 1024;

/// Between the two ids that name a device's part in a deployment.
const SEPARATOR: char = '.';

/// Names a device's part in a deployment.
pub fn entry_id(deployment_id: &str, device_id: &str) -> String {
    format!("{deployment_id}{SEPARATOR}{device_id}")
}

/// The deployment and the device of a part.
pub fn parse_entry_id(id: &str) -> Option<(&str, &str)> {
    id.split_once(SEPARATOR)
}

/// Makes a device eligible again for all unfinished deployments, as if it had never taken part, and empties its
/// history (`reset_device_deployments_history`). Safe to repeat; unknown devices are fine.
///
/// # Errors
/// Those of the store.
pub async fn reset(context: &Context, user: &UserIdentity, device_id: &str) -> Result<(), Error> {
    let tenant = &user.tenant;
    let mut audited = false;
    // Every pass takes rows out of the history or loses a race against somebody who did.
    loop {
        let done = store::history::done(&context.db, tenant, device_id).await?;
        if done.is_empty() {
            return Ok(());
        }
        for done in done {
            let now_ms = context.clock.now_ms();
            let mut batch = Vec::with_capacity(4);
            // A phase keeps its count: whoever entered it has been there.
            if done.active && done.status != DeviceStatus::Decommissioned {
                batch.extend(store::history::start_over(tenant, &done, device_id));
                let counts = Counts::default().plus(done.status, -1);
                let shift = Shift {
                    counts: if done.dynamic {
                        counts
                    } else {
                        counts.plus(DeviceStatus::Pending, 1)
                    },
                    device_count: -1,
                    size_bytes: 0,
                };
                batch.push(store::deployment::shift(
                    tenant,
                    done.number,
                    shift,
                    Guard::Active,
                ));
            } else {
                batch.push(store::history::forget(tenant, &done, device_id, now_ms));
            }
            if !audited {
                batch.push(audit::device(
                    context,
                    user,
                    audit::UPDATE,
                    device_id,
                    "deployment history reset",
                ));
            }
            match context.db.apply(batch).await.map_err(Error::from) {
                Err(error) if error.is_lost_race() => {}
                outcome => {
                    outcome?;
                    audited = true;
                    context.jobs.wake();
                }
            }
        }
    }
}

/// How the last finished deployment of each device went; devices without one are left out.
///
/// # Errors
/// 400 for no or too many devices.
pub async fn last(
    context: &Context,
    tenant: &TenantId,
    device_ids: Vec<String>,
) -> Result<Vec<LastStatus>, Error> {
    if device_ids.is_empty() {
        return Err(Error::invalid("need at least one device id"));
    }
    if device_ids.len() > LAST_IDS_MAX {
        return Err(Error::invalid("too many device ids given"));
    }
    let mut found = Vec::with_capacity(device_ids.len());
    for device_id in device_ids {
        if let Some((deployment_id, status)) =
            store::history::last(&context.db, tenant, &device_id).await?
        {
            found.push(LastStatus {
                device_deployment_id: entry_id(&deployment_id, &device_id),
                device_id,
                deployment_id,
                device_deployment_status: status,
            });
        }
    }
    Ok(found)
}
