//! The authentication request of a device: find or create device and auth set, admit or refuse.
//!
//! The caller has verified the request's signature already. Rules: reference section 2.1, "login flow".

use crate::Devauth;
use crate::error::DevauthError;
use crate::ports::{TenantInfo, TenantRefusal};
use crate::store::auth_set::{self, SetRow};
use crate::store::device::{self, DeviceRow};
use crate::store::{handover, tally, token};

use super::ATTEMPTS_MAX;
use super::audit::{self, By};
use super::change::{Batch, Change};
use super::identity::Identity;
use super::public_key::PublicKey;
use super::status::{DeviceStatus, SetStatus};

/// A request whose signature was found right.
#[derive(Debug, Clone)]
pub struct Admission {
    pub identity: Identity,
    pub key: PublicKey,
    pub tenant_token: Option<String>,
}

impl Devauth {
    /// Decides a device's request; the answer is a signed token.
    ///
    /// # Errors
    /// [`DevauthError::NotAdmitted`], [`DevauthError::NoPlace`], [`DevauthError::TenantRefused`]: tell the device 401.
    pub async fn admit(&self, request: &Admission) -> Result<String, DevauthError> {
        let tenant = self.tenant_of(request.tenant_token.as_deref()).await?;
        for _ in 0..ATTEMPTS_MAX {
            match self.try_admit(&tenant, request).await {
                Err(DevauthError::Contended) => {}
                Err(DevauthError::LimitReached) => return Err(DevauthError::NoPlace),
                outcome => return outcome,
            }
        }
        Err(DevauthError::Contended)
    }

    async fn tenant_of(&self, token: Option<&str>) -> Result<TenantInfo, DevauthError> {
        let Some(tenants) = &self.inner.ports.tenants else {
            return Ok(self.inner.settings.single_tenant.clone());
        };
        let mut refusal = "tenant token missing".to_owned();
        let own = token.filter(|token| !token.is_empty());
        for token in own
            .into_iter()
            .chain(self.inner.settings.default_tenant_token.as_deref())
        {
            match tenants.verify_token(token.to_owned()).await {
                Ok(tenant) => return Ok(tenant),
                Err(TenantRefusal::Refused(text)) => refusal = text,
                Err(TenantRefusal::Failed(text)) => return Err(DevauthError::Tenants(text)),
            }
        }
        Err(DevauthError::TenantRefused(refusal))
    }

    async fn try_admit(
        &self,
        tenant: &TenantInfo,
        request: &Admission,
    ) -> Result<String, DevauthError> {
        let (db, tenant_id) = (&self.inner.db, tenant.id.as_str());
        let Some(device) = device::by_identity(db, tenant_id, request.identity.hash()).await?
        else {
            self.create_device(tenant, request, SetStatus::Pending, None)
                .await?;
            return Err(DevauthError::NotAdmitted);
        };
        let Some(set) = auth_set::by_key(db, tenant_id, &device.id, request.key.hash()).await?
        else {
            self.add_auth_set(tenant, &device, request, SetStatus::Pending, None)
                .await?;
            return Err(DevauthError::NotAdmitted);
        };
        match set.status {
            SetStatus::Pending | SetStatus::Rejected => Err(DevauthError::NotAdmitted),
            SetStatus::Accepted => {
                let issued = self.issue(tenant, &device.id, &set.id)?;
                let batch = vec![token::issue(tenant_id, &set.id, issued.expires_ms)];
                db.apply(batch)
                    .await
                    .map_err(|error| Batch::error(None, error))?;
                self.note_check_in(&tenant.id, &device);
                Ok(issued.token)
            }
            SetStatus::Preauthorized => {
                let sets = auth_set::of_device(db, tenant_id, &device.id).await?;
                let issued = self.issue(tenant, &device.id, &set.id)?;
                let mut change = Change::new(tenant_id, &device, sets);
                change.accept(&set.id);
                change.statement(token::issue(tenant_id, &set.id, issued.expires_ms));
                self.apply_change(&tenant.id, change).await?;
                self.note_check_in(&tenant.id, &device);
                Ok(issued.token)
            }
        }
    }

    /// A new device with its first set. A concurrent creation of the same identity is [`DevauthError::Contended`].
    pub(super) async fn create_device(
        &self,
        tenant: &TenantInfo,
        request: &Admission,
        status: SetStatus,
        by: By<'_>,
    ) -> Result<DeviceRow, DevauthError> {
        let (now_ms, tenant_id) = (self.inner.clock.now_ms(), tenant.id.as_str());
        let device = DeviceRow {
            id: ambidex_kit::new_id().to_string(),
            status: DeviceStatus::of([status]),
            revision: 1,
            created_ms: now_ms,
            updated_ms: now_ms,
            check_in_ms: 0,
            identity: request.identity.canonical().to_owned(),
        };
        let set = new_set(&device.id, request, status, now_ms);
        let mut batch = vec![
            device::insert(
                tenant_id,
                &device.id,
                device.status,
                now_ms,
                request.identity.hash(),
                &device.identity,
            ),
            auth_set::insert(tenant_id, &set, request.key.hash()),
            tally::add(tenant_id, device.status),
            handover::changed(tenant_id, &device.id, device.revision),
        ];
        batch.extend(self.note(
            by,
            audit::PREAUTHORIZE,
            &device.id,
            Some(&device.identity),
            None,
        ));
        self.inner
            .db
            .apply(batch)
            .await
            .map_err(|error| Batch::error(None, error))?;
        self.noted(by);
        self.hand_over(&tenant.id, &device).await;
        Ok(device)
    }

    /// One more set for a known device. The same key arriving twice at once is [`DevauthError::Contended`].
    pub(super) async fn add_auth_set(
        &self,
        tenant: &TenantInfo,
        device: &DeviceRow,
        request: &Admission,
        status: SetStatus,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        let sets = auth_set::of_device(&self.inner.db, tenant.id.as_str(), &device.id).await?;
        let set = new_set(&device.id, request, status, self.inner.clock.now_ms());
        let mut change = Change::new(tenant.id.as_str(), device, sets);
        let text = format!("authentication set {}", set.id);
        change.add_set(set, request.key.hash());
        change.note(self.note(
            by,
            audit::PREAUTHORIZE,
            &device.id,
            Some(&device.identity),
            Some(text),
        ));
        self.apply_change(&tenant.id, change).await?;
        self.noted(by);
        Ok(())
    }
}

fn new_set(device_id: &str, request: &Admission, status: SetStatus, now_ms: i64) -> SetRow {
    SetRow {
        id: ambidex_kit::new_id().to_string(),
        device_id: device_id.to_owned(),
        status,
        created_ms: now_ms,
        public_key: request.key.pem().to_owned(),
    }
}
