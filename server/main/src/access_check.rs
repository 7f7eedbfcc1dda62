//! Asks the services that store tokens whether one still counts.

use ambidex_access::{Denied, DeviceIdentity, Grants, TenantId, TokenCheck, UserIdentity};
use ambidex_devauth::{Devauth, TokenDenied};
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::{Status, Tenantadm, TenantadmError};
use ambidex_useradm::Useradm;
use http::request::Parts;

pub(crate) struct AccessCheck {
    pub(crate) devauth: Devauth,
    pub(crate) useradm: Useradm,
    /// `None` on a server of one tenant.
    pub(crate) tenants: Option<Tenantadm>,
}

impl AccessCheck {
    /// A suspended tenant's tokens count no more, whether they have been deleted yet or not.
    async fn tenant_is_active(&self, tenant: &TenantId) -> Result<(), Denied> {
        let Some(tenants) = &self.tenants else {
            return Ok(());
        };
        if tenant.as_str().is_empty() {
            return Ok(());
        }
        match tenants.get(tenant.as_str()).await {
            Ok(tenant) if tenant.status == Status::Active => Ok(()),
            Ok(_) => Err(Denied::Unauthorized("tenant account suspended".to_owned())),
            Err(TenantadmError::NotFound(_)) => Err(unauthorized()),
            Err(error) => Err(Denied::Internal(Box::new(error))),
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
        _: &'a Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async move {
            self.tenant_is_active(&device.tenant).await?;
            match self.devauth.check_device_token(device).await {
                Ok(()) => Ok(()),
                Err(TokenDenied::Revoked) => Err(unauthorized()),
                Err(error @ TokenDenied::Failed(_)) => Err(Denied::Internal(Box::new(error))),
            }
        })
    }

    fn user<'a>(
        &'a self,
        user: &'a UserIdentity,
        _: &'a Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        Box::pin(async move {
            self.tenant_is_active(&user.tenant).await?;
            match self.useradm.token_counts(user).await {
                Ok(true) => Ok(Grants::everything()),
                Ok(false) => Err(unauthorized()),
                Err(error) => Err(Denied::Internal(Box::new(error))),
            }
        })
    }
}
