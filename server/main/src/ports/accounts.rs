//! What tenant administration needs. The services it needs are made after it, so they are connected
//! later.

use std::sync::OnceLock;

use ambidex_access::TenantId;
use ambidex_devauth::Devauth;
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::ports::{self, PortError, PreparedUser, UserRefusal};
use ambidex_useradm::{Useradm, UseradmError, Vetted};

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

fn refusal(error: UseradmError) -> UserRefusal {
    match error {
        UseradmError::Invalid(text) | UseradmError::Unprocessable(text) => {
            UserRefusal::Invalid(text)
        }
        other => UserRefusal::Failed(PortError(format!("useradm: {}", chain(&other)))),
    }
}

impl ports::Accounts for Accounts {
    fn prepare_user<'a>(
        &'a self,
        email: &'a str,
        password: Option<&'a str>,
    ) -> BoxFuture<'a, Result<PreparedUser, UserRefusal>> {
        Box::pin(async move {
            let (useradm, _) = self.services()?;
            match useradm.vet_user(email, password).await {
                Ok(Vetted::Fine {
                    email,
                    password_hash,
                }) => Ok(PreparedUser {
                    id: ambidex_kit::new_id().to_string(),
                    email,
                    password_hash,
                    login: None,
                }),
                Ok(Vetted::Taken) => Err(UserRefusal::Taken),
                Err(error) => Err(refusal(error)),
            }
        })
    }

    fn create_user<'a>(
        &'a self,
        tenant: &'a str,
        user: &'a PreparedUser,
    ) -> BoxFuture<'a, Result<(), UserRefusal>> {
        Box::pin(async move {
            let (useradm, _) = self.services()?;
            let PreparedUser {
                id,
                email,
                password_hash,
                login,
            } = user.clone();
            let tenant = TenantId::new(tenant);
            let created = useradm.ensure_user(&tenant, &id, &email, password_hash, login);
            match created.await {
                Ok(true) => Ok(()),
                Ok(false) => Err(UserRefusal::Taken),
                Err(error) => Err(refusal(error)),
            }
        })
    }

    fn remove_users<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            let (useradm, _) = self.services()?;
            let removed = useradm.remove_users(&TenantId::new(tenant)).await;
            removed.map_err(|e| PortError(format!("useradm: {}", chain(&e))))
        })
    }

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
