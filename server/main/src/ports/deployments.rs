//! What deployments need.

use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_deployments::ports::{self, PortError, Ports};
use ambidex_kit::BoxFuture;

use super::chain;

pub(crate) fn ports(inventory: ambidex_inventory::Inventory) -> Ports {
    Ports {
        inventory: Arc::new(Inventory(inventory)),
    }
}

struct Inventory(ambidex_inventory::Inventory);

impl ports::Inventory for Inventory {
    fn accepted_devices<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        Box::pin(async move {
            let found = self.0.accepted_devices(tenant).await;
            found.map_err(|e| PortError(format!("inventory: {}", chain(&e))))
        })
    }

    fn devices_in_group<'a>(
        &'a self,
        tenant: &'a TenantId,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        Box::pin(async move {
            let found = self.0.devices_in_group(tenant, group).await;
            found.map_err(|e| PortError(format!("inventory: {}", chain(&e))))
        })
    }
}
