//! Asks the services that store tokens whether one still counts, and counts the calls of its bearer.

use std::sync::Arc;

use ambidex_access::{
    CallGate, Denied, DeviceIdentity, Grants, LimitSource, TenantId, TenantLimits, TokenCheck,
    UserIdentity,
};
use ambidex_devauth::{Devauth, TokenDenied};
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::{Standing, Status, Tenantadm};
use ambidex_useradm::Useradm;
use http::request::Parts;

pub(crate) struct AccessCheck {
    pub(crate) devauth: Devauth,
    pub(crate) useradm: Useradm,
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
            match self.useradm.token_counts(user).await {
                Ok(true) => {}
                Ok(false) => return Err(unauthorized()),
                Err(error) => return Err(Denied::Internal(Box::new(error))),
            }
            if let Some((_, gate)) = &self.tenants {
                gate.user(user, &request.method, request.uri.path()).await?;
            }
            Ok(Grants::everything())
        })
    }
}
