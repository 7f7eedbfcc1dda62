//! Tokens of devices: issuing, checking, revoking.

use ambidex_access::{Claims, DeviceClaims, DeviceIdentity, Identity, TenantId, TokenError};
use ambidex_db::DbError;
use uuid::Uuid;

use crate::Devauth;
use crate::error::DevauthError;
use crate::ports::TenantInfo;
use crate::store::token;

use super::audit::{self, By};

/// A freshly signed token.
pub(super) struct Issued {
    pub token: String,
    pub expires_ms: i64,
}

/// Why a token with a good signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum TokenDenied {
    /// Revoked, or its device is no longer accepted.
    #[error("unauthorized")]
    Revoked,
    #[error("cannot check a device token: {0}")]
    Failed(#[source] DevauthError),
}

/// What a check of a token's text found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Valid(DeviceIdentity),
    Invalid,
    Expired,
    /// Valid, but the tenant lacks the add-on that the requested path belongs to.
    AddonMissing(&'static str),
}

/// Services that belong to an add-on, by their segment in a path (reference section 2.4).
const ADDON_SERVICES: [(&str, &str); 2] =
    [("deviceconfig", "configure"), ("devicemonitor", "monitor")];

/// The add-on that a request to this URI needs and that these claims do not grant.
fn missing_addon(claims: &Claims, uri: &str) -> Option<&'static str> {
    let path = uri.split('?').next().unwrap_or_default();
    let (_, needed) = ADDON_SERVICES
        .into_iter()
        .find(|(service, _)| path.split('/').any(|segment| segment == *service))?;
    let granted = claims
        .addons
        .iter()
        .flatten()
        .any(|addon| addon.name == needed && addon.enabled);
    (!granted && claims.trial != Some(true)).then_some(needed)
}

impl Devauth {
    /// Whether the token still counts: it was not revoked and its auth set is still accepted. One read. Also notes
    /// that the device was seen. Signature and time have been checked by the caller.
    ///
    /// # Errors
    /// [`TokenDenied::Revoked`]: answer 401. [`TokenDenied::Failed`]: answer 500.
    pub async fn check_device_token(&self, device: &DeviceIdentity) -> Result<(), TokenDenied> {
        let id = device.jti.to_string();
        let row = token::by_id(&self.inner.db, device.tenant.as_str(), &id)
            .await
            .map_err(|error| TokenDenied::Failed(error.into()))?;
        match row {
            Some(row) if row.device_id == device.device_id => {
                let now_ms = self.inner.clock.now_ms();
                self.inner.check_ins.note(
                    &device.tenant,
                    &device.device_id,
                    row.check_in_ms,
                    now_ms,
                );
                Ok(())
            }
            _ => Err(TokenDenied::Revoked),
        }
    }

    /// Checks the text of a device's token in every respect, for a request to `uri` if that is known. An expired
    /// token's record is dropped.
    ///
    /// # Errors
    /// The database failed.
    pub async fn verify_token(
        &self,
        text: &str,
        uri: Option<&str>,
    ) -> Result<Verdict, DevauthError> {
        let Ok(claims) = self.inner.keys.verify(text) else {
            return Ok(Verdict::Invalid);
        };
        let now_ms = self.inner.clock.now_ms();
        let time = claims.check_time(now_ms);
        let lacking = uri.and_then(|uri| missing_addon(&claims, uri));
        let Some(Identity::Device(device)) = claims.identity() else {
            return Ok(Verdict::Invalid);
        };
        match time {
            Ok(()) => match self.check_device_token(&device).await {
                Ok(()) => Ok(match lacking {
                    Some(addon) => Verdict::AddonMissing(addon),
                    None => Verdict::Valid(device),
                }),
                Err(TokenDenied::Revoked) => Ok(Verdict::Invalid),
                Err(TokenDenied::Failed(error)) => Err(error),
            },
            Err(TokenError::Expired) => {
                let forget =
                    token::delete_expired(device.tenant.as_str(), &device.jti.to_string(), now_ms);
                self.inner.db.apply(vec![forget]).await?;
                Ok(Verdict::Expired)
            }
            Err(_) => Ok(Verdict::Invalid),
        }
    }

    /// Revokes the tokens of one auth set. The device may ask for a new one at once.
    pub async fn revoke_token(
        &self,
        tenant: &TenantId,
        id: &str,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        let row = token::by_id(&self.inner.db, tenant.as_str(), id)
            .await?
            .ok_or(DevauthError::TokenNotFound)?;
        let mut batch = vec![token::delete(tenant.as_str(), id).expect_one()];
        let text = format!("token of authentication set {id}");
        batch.extend(self.note(by, audit::REVOKE, &row.device_id, None, Some(text)));
        match self.inner.db.apply(batch).await {
            Ok(_) => {
                self.noted(by);
                self.tokens_revoked(tenant, &row.device_id).await;
                Ok(())
            }
            Err(DbError::Conflict { .. }) => Err(DevauthError::TokenNotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// Revokes all tokens of a device, or of all devices of the tenant.
    pub async fn revoke_tokens(
        &self,
        tenant: &TenantId,
        device_id: Option<&str>,
    ) -> Result<(), DevauthError> {
        let statement = match device_id {
            Some(device_id) => token::delete_of_device(tenant.as_str(), device_id),
            None => token::delete_of_tenant(tenant.as_str()),
        };
        self.inner.db.apply(vec![statement]).await?;
        if let Some(device_id) = device_id {
            self.tokens_revoked(tenant, device_id).await;
        }
        Ok(())
    }

    /// Ends the device's open connection, unless its token still counts.
    pub(super) async fn tokens_revoked(&self, tenant: &TenantId, device_id: &str) {
        let connections = &self.inner.ports.connections;
        connections.tokens_revoked(tenant, device_id).await;
    }

    /// Signs a token for one auth set of a device; it counts once its row is written.
    pub(super) fn issue(
        &self,
        tenant: &TenantInfo,
        device_id: &str,
        set_id: &str,
    ) -> Result<Issued, DevauthError> {
        let uuid = |text: &str| {
            Uuid::parse_str(text)
                .map_err(|error| DevauthError::Token(format!("id {text:?}: {error}")))
        };
        let settings = &self.inner.settings;
        let issued_s = self.inner.clock.now_ms().div_euclid(1000);
        let expires_s = issued_s + settings.token_lifetime_s;
        let claims = Claims::device(DeviceClaims {
            jti: uuid(set_id)?,
            sub: uuid(device_id)?,
            tenant: tenant.id.claim(),
            plan: tenant.plan.clone(),
            trial: tenant.trial,
            addons: tenant.addons.clone(),
            issuer: settings.issuer.clone(),
            issued_s,
            expires_s,
        });
        let token = self
            .inner
            .keys
            .sign(&claims)
            .map_err(|error| DevauthError::Token(error.to_string()))?;
        Ok(Issued {
            token,
            expires_ms: expires_s.saturating_mul(1000),
        })
    }
}
