//! What the audit log needs.

use ambidex_access::TenantId;
use ambidex_auditlogs::ports::{self, PortError};
use ambidex_devauth::{Devauth, DevauthError};
use ambidex_kit::BoxFuture;
use ambidex_useradm::{Useradm, UseradmError};

use super::chain;

pub(crate) struct Directory {
    pub(crate) useradm: Useradm,
    pub(crate) devauth: Devauth,
}

impl ports::Directory for Directory {
    fn user_email<'a>(
        &'a self,
        tenant: &'a str,
        user: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            match self.useradm.user(&TenantId::new(tenant), user).await {
                Ok(user) => Ok(Some(user.email)),
                Err(UseradmError::NotFound(_)) => Ok(None),
                Err(error) => Err(PortError(format!("useradm: {}", chain(&error)))),
            }
        })
    }

    fn device_identity<'a>(
        &'a self,
        tenant: &'a str,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            match self.devauth.identity(&TenantId::new(tenant), device).await {
                Ok(identity) => Ok(Some(identity)),
                Err(DevauthError::DeviceNotFound) => Ok(None),
                Err(error) => Err(PortError(format!("devauth: {}", chain(&error)))),
            }
        })
    }
}
