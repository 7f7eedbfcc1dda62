//! What device configuration needs.

use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_deviceconfig::ports::{self, PortError, Ports};
use ambidex_kit::BoxFuture;

use super::chain;
use super::workflows::Workflows;

pub(crate) fn ports(
    inventory: ambidex_inventory::Inventory,
    workflows: ambidex_workflows::Workflows,
) -> Ports {
    Ports {
        inventory: Arc::new(Inventory(inventory)),
        workflows: Arc::new(Workflows(workflows)),
    }
}

struct Inventory(ambidex_inventory::Inventory);

impl ports::Inventory for Inventory {
    fn group_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            match self.0.device_group(tenant, device_id).await {
                Ok(group) => Ok(group),
                Err(ambidex_inventory::InventoryError::DeviceNotFound) => Ok(None),
                Err(error) => Err(PortError(format!("inventory: {}", chain(&error)))),
            }
        })
    }
}
