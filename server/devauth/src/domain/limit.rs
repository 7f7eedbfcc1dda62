//! The limit of accepted devices.

use ambidex_access::TenantId;

use crate::Devauth;
use crate::error::DevauthError;
use crate::store::{limit, tenant as tenants};

/// The only limit there is.
pub const MAX_DEVICES: &str = "max_devices";

impl Devauth {
    /// The limit of accepted devices; 0 stands for none.
    pub async fn device_limit(&self, tenant: &TenantId) -> Result<u64, DevauthError> {
        Ok(limit::by_name(&self.inner.db, tenant.as_str(), MAX_DEVICES)
            .await?
            .unwrap_or(0))
    }

    /// Sets the limit. Devices that are accepted already stay so.
    pub async fn set_device_limit(
        &self,
        tenant: &TenantId,
        value: u64,
    ) -> Result<(), DevauthError> {
        self.inner
            .db
            .apply(vec![limit::put(tenant.as_str(), MAX_DEVICES, value)])
            .await?;
        Ok(())
    }

    /// Back to no limit.
    pub async fn clear_device_limit(&self, tenant: &TenantId) -> Result<(), DevauthError> {
        self.inner
            .db
            .apply(vec![limit::delete(tenant.as_str(), MAX_DEVICES)])
            .await?;
        Ok(())
    }

    /// Announces a tenant. Repeating it changes nothing.
    pub async fn create_tenant(&self, tenant: &TenantId) -> Result<(), DevauthError> {
        self.inner
            .db
            .apply(vec![tenants::put(
                tenant.as_str(),
                self.inner.clock.now_ms(),
            )])
            .await?;
        Ok(())
    }
}
