//! What the device connection needs.

use ambidex_access::{DeviceIdentity, TenantId, UserIdentity};
use ambidex_devauth::{Devauth, TokenDenied};
use ambidex_deviceconnect::ports::{self, PortError};
use ambidex_inventory::{Inventory, InventoryError};
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::{Status, Tenant, Tenantadm, TenantadmError};
use ambidex_useradm::Useradm;

use super::chain;

/// The add-on that remote access belongs to.
const ADDON: &str = "troubleshoot";

pub(crate) struct Neighbours {
    pub(crate) inventory: Inventory,
    pub(crate) devauth: Devauth,
    pub(crate) useradm: Useradm,
    /// `None` on a server of one tenant.
    pub(crate) tenants: Option<Tenantadm>,
}

fn port_error(neighbour: &str, error: &dyn std::error::Error) -> PortError {
    PortError(format!("{neighbour}: {}", chain(error)))
}

/// What stands in for a tenant: some devices and users have none.
enum Of {
    Nobody,
    Tenant(Box<Tenant>),
    /// It has been removed.
    Gone,
}

impl Neighbours {
    async fn tenant(&self, tenant: &TenantId) -> Result<Of, PortError> {
        let (Some(tenants), false) = (&self.tenants, tenant.as_str().is_empty()) else {
            return Ok(Of::Nobody);
        };
        match tenants.get(tenant.as_str()).await {
            Ok(tenant) => Ok(Of::Tenant(Box::new(tenant))),
            Err(TenantadmError::NotFound(_)) => Ok(Of::Gone),
            Err(error) => Err(port_error("tenantadm", &error)),
        }
    }

    /// Connections of a suspended or removed tenant end like those of a revoked token.
    async fn tenant_is_active(&self, tenant: &TenantId) -> Result<bool, PortError> {
        Ok(match self.tenant(tenant).await? {
            Of::Nobody => true,
            Of::Tenant(tenant) => tenant.status == Status::Active,
            Of::Gone => false,
        })
    }
}

impl ports::Neighbours for Neighbours {
    fn group<'a>(
        &'a self,
        tenant: &'a TenantId,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            match self.inventory.device_group(tenant, device).await {
                Ok(group) => Ok(group),
                Err(InventoryError::DeviceNotFound) => Ok(None),
                Err(error) => Err(port_error("inventory", &error)),
            }
        })
    }

    fn may_troubleshoot<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<bool, PortError>> {
        Box::pin(async move {
            Ok(match self.tenant(tenant).await? {
                Of::Nobody => true,
                // A trial includes every add-on.
                Of::Tenant(tenant) => {
                    let mut addons = tenant.addons.iter();
                    tenant.trial || addons.any(|addon| addon.enabled && addon.name == ADDON)
                }
                Of::Gone => false,
            })
        })
    }

    fn device_counts<'a>(
        &'a self,
        device: &'a DeviceIdentity,
    ) -> BoxFuture<'a, Result<bool, PortError>> {
        Box::pin(async move {
            if !self.tenant_is_active(&device.tenant).await? {
                return Ok(false);
            }
            match self.devauth.check_device_token(device).await {
                Ok(()) => Ok(true),
                Err(TokenDenied::Revoked) => Ok(false),
                Err(error) => Err(port_error("devauth", &error)),
            }
        })
    }

    fn user_counts<'a>(&'a self, user: &'a UserIdentity) -> BoxFuture<'a, Result<bool, PortError>> {
        Box::pin(async move {
            if !self.tenant_is_active(&user.tenant).await? {
                return Ok(false);
            }
            let counts = self.useradm.token_counts(user).await;
            counts.map_err(|error| port_error("useradm", &error))
        })
    }
}
