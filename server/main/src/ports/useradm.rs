//! What user administration needs.

use ambidex_access::{Addon, TenantId};
use ambidex_inventory::InventoryError;
use ambidex_kit::{BoxFuture, Clock};
use ambidex_tenantadm::{Status, Tenantadm, TenantadmError};
use ambidex_useradm::ports::{self, PortError, TenantFacts};

use super::chain;
use super::devauth::addons;

pub(crate) struct Tenants(pub(crate) Tenantadm, pub(crate) Clock);

fn port_error(error: TenantadmError) -> PortError {
    PortError(format!("tenantadm: {}", chain(&error)))
}

impl ports::Tenants for Tenants {
    fn facts<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Option<TenantFacts>, PortError>> {
        Box::pin(async move {
            if tenant.as_str().is_empty() {
                return Ok(Some(TenantFacts {
                    plan: "enterprise".to_owned(),
                    trial: None,
                    addons: Addon::all_enabled(),
                    barred: None,
                }));
            }
            match self.0.get(tenant.as_str()).await {
                Ok(tenant) => Ok(Some(TenantFacts {
                    plan: tenant.plan.name().to_owned(),
                    trial: Some(tenant.trial),
                    addons: addons(tenant.addons.clone()),
                    barred: match tenant.status_at(self.1.now_ms()) {
                        Status::Active => None,
                        Status::Suspended => Some("tenant account suspended"),
                        Status::Inactive => Some("tenant account inactive"),
                    },
                })),
                Err(TenantadmError::NotFound(_)) => Ok(None),
                Err(error) => Err(port_error(error)),
            }
        })
    }

    fn user_saved<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
        email: &'a str,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            if tenant.as_str().is_empty() {
                return Ok(());
            }
            let done = self.0.user_saved(tenant.as_str(), user, email).await;
            done.map_err(port_error)
        })
    }

    fn user_deleted<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            if tenant.as_str().is_empty() {
                return Ok(());
            }
            let done = self.0.user_deleted(tenant.as_str(), user).await;
            done.map_err(port_error)
        })
    }
}

pub(crate) struct Devices(pub(crate) ambidex_inventory::Inventory);

impl ports::Devices for Devices {
    fn group_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            match self.0.device_group(tenant, device).await {
                Ok(group) => Ok(group),
                Err(InventoryError::DeviceNotFound) => Ok(None),
                Err(error) => Err(PortError(format!("inventory: {}", chain(&error)))),
            }
        })
    }
}
