//! What device authentication needs.

use std::sync::Arc;

use ambidex_access::{Addon, TenantId};
use ambidex_bus::Bus;
use ambidex_devauth::ports::{self, DeviceState, PortError, Ports, TenantInfo, TenantRefusal};
use ambidex_inventory::FleetDevice;
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::{Tenantadm, TenantadmError};

use super::chain;
use super::workflows::Workflows;

pub(crate) fn ports(
    inventory: ambidex_inventory::Inventory,
    workflows: ambidex_workflows::Workflows,
    bus: Bus,
    tenants: Option<Tenantadm>,
) -> Ports {
    Ports {
        inventory: Arc::new(Inventory(inventory)),
        workflows: Arc::new(Workflows(workflows)),
        connections: Arc::new(Connections(bus)),
        tenants: tenants.map(|tenants| Arc::new(Tenants(tenants)) as Arc<dyn ports::Tenants>),
    }
}

fn port_error(neighbour: &str, error: &dyn std::error::Error) -> PortError {
    PortError(format!("{neighbour}: {}", chain(error)))
}

struct Inventory(ambidex_inventory::Inventory);

impl ports::Inventory for Inventory {
    fn put_devices(
        &self,
        tenant: TenantId,
        devices: Vec<DeviceState>,
    ) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(async move {
            let devices: Vec<FleetDevice> = devices
                .into_iter()
                .map(|device| FleetDevice {
                    id: device.id,
                    identity: device.identity,
                    status: device.status.to_owned(),
                    revision: device.revision,
                })
                .collect();
            let done = self.0.put_fleet_devices(&tenant, &devices).await;
            done.map_err(|e| port_error("inventory", &e))
        })
    }

    fn checked_in(
        &self,
        tenant: TenantId,
        devices: Vec<(String, i64)>,
    ) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(async move {
            let done = self.0.record_check_ins(&tenant, &devices).await;
            done.map_err(|e| port_error("inventory", &e))
        })
    }
}

struct Connections(Bus);

impl ports::Connections for Connections {
    fn tokens_revoked<'a>(&'a self, tenant: &'a TenantId, device: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(ambidex_deviceconnect::tokens_revoked(
            &self.0, tenant, device,
        ))
    }
}

struct Tenants(Tenantadm);

impl ports::Tenants for Tenants {
    fn verify_token(&self, token: String) -> BoxFuture<'_, Result<TenantInfo, TenantRefusal>> {
        Box::pin(async move {
            match self.0.verify_token(&token).await {
                Ok(tenant) => Ok(TenantInfo {
                    id: TenantId::new(tenant.id),
                    plan: tenant.plan.name().to_owned(),
                    trial: Some(tenant.trial),
                    addons: addons(tenant.addons),
                }),
                Err(TenantadmError::Unauthorized(text)) => {
                    Err(TenantRefusal::Refused(text.to_owned()))
                }
                Err(error) => Err(TenantRefusal::Failed(chain(&error))),
            }
        })
    }
}

/// The add-ons of a tenant as tokens tell of them.
pub(super) fn addons(list: Vec<ambidex_wire::management::tenantadm::Addon>) -> Vec<Addon> {
    list.into_iter()
        .map(|addon| Addon {
            name: addon.name,
            enabled: addon.enabled,
        })
        .collect()
}
