//! What tenant administration needs. The services it needs are made after it, so they are connected
//! later.

use std::sync::OnceLock;

use ambidex_access::TenantId;
use ambidex_devauth::Devauth;
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::ports::{self, PortError};
use ambidex_useradm::Useradm;

use super::chain;

#[derive(Default)]
pub(crate) struct Accounts(OnceLock<(Useradm, Devauth)>);

impl Accounts {
    /// Called once, before anything is served.
    pub(crate) fn connect(&self, useradm: Useradm, devauth: Devauth) {
        let _ = self.0.set((useradm, devauth));
    }

    fn services(&self) -> Result<&(Useradm, Devauth), PortError> {
        self.0
            .get()
            .ok_or_else(|| PortError("the accounts are not connected yet".to_owned()))
    }
}

impl ports::Accounts for Accounts {
    fn revoke_tokens<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            let (useradm, devauth) = self.services()?;
            let tenant = TenantId::new(tenant);
            useradm
                .revoke_tokens(&tenant, None)
                .await
                .map_err(|e| PortError(format!("useradm: {}", chain(&e))))?;
            devauth
                .revoke_tokens(&tenant, None)
                .await
                .map_err(|e| PortError(format!("devauth: {}", chain(&e))))
        })
    }

    fn limit_devices<'a>(
        &'a self,
        tenant: &'a str,
        devices: u64,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            let (_, devauth) = self.services()?;
            let tenant = TenantId::new(tenant);
            devauth
                .set_device_limit(&tenant, devices)
                .await
                .map_err(|e| PortError(format!("devauth: {}", chain(&e))))
        })
    }
}
