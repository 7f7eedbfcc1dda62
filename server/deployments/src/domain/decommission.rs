//! A device is gone: its part in every deployment ends, so that deployments can finish.

use ambidex_access::TenantId;
use ambidex_wire::deployments::DeviceStatus;

use super::deployment::Counts;
use super::device::State;
use crate::Context;
use crate::error::Error;
use crate::store;
use crate::store::deployment::{Guard, Shift};

/// Ends a device's part in all deployments (`decommission`). Safe to repeat; unknown devices are fine.
///
/// # Errors
/// Those of the store.
pub async fn device(context: &Context, tenant: &TenantId, device_id: &str) -> Result<(), Error> {
    // Every pass ends rows or loses a race against somebody who did.
    loop {
        let open = store::device::open_of_device(&context.db, tenant, device_id).await?;
        if open.is_empty() {
            return Ok(());
        }
        for (number, state, status) in open {
            let now_ms = context.clock.now_ms();
            let shift = Shift {
                counts: Counts::moved(status, DeviceStatus::Decommissioned),
                // Whoever never asked is counted among those that have, as in the reference.
                device_count: i64::from(state == State::Waiting),
                size_bytes: 0,
            };
            let guard = if state == State::Waiting {
                Guard::Active
            } else {
                Guard::NotAborted
            };
            let outcome = context
                .db
                .apply(vec![
                    store::device::decommission(tenant, number, device_id, (state, status), now_ms),
                    store::deployment::shift(tenant, number, shift, guard),
                    store::deployment::settle(tenant, number, now_ms),
                ])
                .await
                .map_err(Error::from);
            match outcome {
                Err(error) if error.is_lost_race() => {}
                outcome => {
                    outcome?;
                }
            }
        }
    }
}
