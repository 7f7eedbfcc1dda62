//! Asks the services that store tokens whether one still counts, and counts the calls of its bearer.

use std::sync::Arc;

use ambidex_access::{
    CallGate, Denied, DeviceIdentity, Grants, LimitSource, TenantId, TenantLimits, TokenCheck,
    UserIdentity,
};
use ambidex_devauth::{Devauth, TokenDenied};
use ambidex_inventory::{Inventory, InventoryError};
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::{Standing, Status, Tenantadm};
use ambidex_useradm::{RequestDenied, Useradm};
use http::request::Parts;

pub(crate) struct AccessCheck {
    pub(crate) devauth: Devauth,
    pub(crate) useradm: Useradm,
    pub(crate) inventory: Inventory,
    /// `None` on a server of one tenant, which limits nothing.
    pub(crate) tenants: Option<(Tenantadm, CallGate)>,
}

/// What the tenants of this server may call.
pub(crate) struct Limits(pub(crate) Tenantadm);

impl LimitSource for Limits {
    fn limits<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Option<Arc<TenantLimits>>, Denied>> {
        Box::pin(async move {
            let standing = standing(&self.0, tenant).await?;
            Ok(standing.and_then(|standing| standing.limits.clone()))
        })
    }
}

/// `None` also for the tenant without a name.
async fn standing(tenants: &Tenantadm, tenant: &TenantId) -> Result<Option<Arc<Standing>>, Denied> {
    if tenant.as_str().is_empty() {
        return Ok(None);
    }
    let standing = tenants.standing(tenant.as_str()).await;
    standing.map_err(|error| Denied::Internal(Box::new(error)))
}

impl AccessCheck {
    /// A suspended tenant's tokens count no more, whether they have been deleted yet or not.
    async fn tenant_is_active(&self, tenant: &TenantId) -> Result<(), Denied> {
        let Some((tenants, _)) = &self.tenants else {
            return Ok(());
        };
        if tenant.as_str().is_empty() {
            return Ok(());
        }
        match standing(tenants, tenant).await? {
            Some(standing) if standing.status == Status::Active => Ok(()),
            Some(_) => Err(Denied::Unauthorized("tenant account suspended".to_owned())),
            None => Err(unauthorized()),
        }
    }
}

impl AccessCheck {
    /// Device authentication knows no groups: whether a user may reach one of its devices is decided here. Other
    /// services know the groups of their devices themselves.
    async fn reaches(
        &self,
        user: &UserIdentity,
        grants: &Grants,
        request: &Parts,
    ) -> Result<(), Denied> {
        let Some(device) = devauth_device(request.uri.path()) else {
            return Ok(());
        };
        if grants.inventory_groups.is_none() {
            return Ok(());
        }
        let group = match self.inventory.device_group(&user.tenant, device).await {
            Ok(group) => group,
            Err(InventoryError::DeviceNotFound) => None,
            Err(error) => return Err(Denied::Internal(Box::new(error))),
        };
        if grants.sees_device(device, group.as_deref()) {
            Ok(())
        } else {
            Err(Denied::Forbidden(RequestDenied::Forbidden.to_string()))
        }
    }
}

/// The device in a path of device authentication's management API.
fn devauth_device(path: &str) -> Option<&str> {
    let (_, rest) = path
        .strip_prefix("/api/management/")?
        .split_once("/devauth/devices/")?;
    let device = rest.split('/').next().filter(|id| !id.is_empty())?;
    // These are no devices but what is counted and searched.
    (!["count", "search"].contains(&device)).then_some(device)
}

fn unauthorized() -> Denied {
    Denied::Unauthorized("unauthorized".to_owned())
}

impl TokenCheck for AccessCheck {
    fn device<'a>(
        &'a self,
        device: &'a DeviceIdentity,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async move {
            self.tenant_is_active(&device.tenant).await?;
            match self.devauth.check_device_token(device).await {
                Ok(()) => {}
                Err(TokenDenied::Revoked) => return Err(unauthorized()),
                Err(error @ TokenDenied::Failed(_)) => {
                    return Err(Denied::Internal(Box::new(error)));
                }
            }
            match &self.tenants {
                None => Ok(()),
                Some((_, gate)) => {
                    gate.device(device, &request.method, request.uri.path())
                        .await
                }
            }
        })
    }

    fn user<'a>(
        &'a self,
        user: &'a UserIdentity,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        Box::pin(async move {
            self.tenant_is_active(&user.tenant).await?;
            let uri = request.uri.path_and_query().map_or("/", |uri| uri.as_str());
            let method = request.method.as_str();
            let outcome = match self.useradm.check_request(user, method, uri).await {
                Err(RequestDenied::Revoked) => return Err(unauthorized()),
                Err(error @ RequestDenied::Failed(_)) => {
                    return Err(Denied::Internal(Box::new(error)));
                }
                outcome => outcome,
            };
            // Calls that the roles refuse count as well.
            if let Some((_, gate)) = &self.tenants {
                gate.user(user, &request.method, request.uri.path()).await?;
            }
            let grants = outcome.map_err(|denied| Denied::Forbidden(denied.to_string()))?;
            self.reaches(user, &grants, request).await?;
            Ok(grants)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_in_paths_are_found() {
        for (path, wanted) in [
            ("/api/management/v2/devauth/devices/1", Some("1")),
            (
                "/api/management/v2/devauth/devices/1/auth/2/status",
                Some("1"),
            ),
            ("/api/management/v2/devauth/devices", None),
            ("/api/management/v2/devauth/devices/count", None),
            ("/api/management/v2/devauth/devices/search", None),
            ("/api/management/v1/inventory/devices/1", None),
        ] {
            assert_eq!(devauth_device(path), wanted, "{path}");
        }
    }
}
