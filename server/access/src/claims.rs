//! What a token says (reference: device authentication 2.1, user administration 4.1, tenants 5.1).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DeviceIdentity, Grants, Identity, OpenAddons, TenantId, TokenError, UserIdentity};

/// An add-on and whether the tenant has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// `configure`, `troubleshoot` or `monitor`.
    pub name: String,
    /// Whether it may be used.
    pub enabled: bool,
}

impl Addon {
    /// What a server without tenants grants.
    pub fn all_enabled() -> Vec<Addon> {
        ["configure", "troubleshoot", "monitor"]
            .map(|name| Addon {
                name: name.to_owned(),
                enabled: true,
            })
            .into()
    }
}

/// The claims of any token of this server, as they stand in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claims {
    /// Id of the token: the auth set of a device, a fresh id for a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Uuid>,
    /// The device, the user or the tenant.
    #[serde(default)]
    pub sub: String,
    /// Seconds since 1970; none: the token does not expire by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Issuer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub iss: String,
    /// Scope of a user's token: `mender.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scp: Option<String>,
    /// The token speaks for a device.
    #[serde(
        rename = "mender.device",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub device: Option<bool>,
    /// The token speaks for a user.
    #[serde(
        rename = "mender.user",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub user: Option<bool>,
    /// Tenant id; absent on a server without tenants.
    #[serde(
        rename = "mender.tenant",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub tenant: Option<String>,
    /// Plan of the tenant.
    #[serde(
        rename = "mender.plan",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub plan: Option<String>,
    /// Whether the tenant is on trial.
    #[serde(
        rename = "mender.trial",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub trial: Option<bool>,
    /// Add-ons of the tenant.
    #[serde(
        rename = "mender.addons",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub addons: Option<Vec<Addon>>,
}

/// What a device's token says.
#[derive(Debug, Clone)]
pub struct DeviceClaims {
    /// Auth set id.
    pub jti: Uuid,
    /// Device id.
    pub sub: Uuid,
    /// None on a server without tenants.
    pub tenant: Option<String>,
    /// Plan of the tenant.
    pub plan: String,
    /// None on a server without tenants.
    pub trial: Option<bool>,
    /// Add-ons of the tenant.
    pub addons: Vec<Addon>,
    /// `Mender` unless configured otherwise.
    pub issuer: String,
    /// Seconds since 1970.
    pub issued_s: i64,
    /// Seconds since 1970.
    pub expires_s: i64,
}

/// What a user's token says.
#[derive(Debug, Clone)]
pub struct UserClaims {
    /// Fresh for every login.
    pub jti: Uuid,
    /// User id.
    pub sub: String,
    /// None on a server without tenants.
    pub tenant: Option<String>,
    /// Plan of the tenant.
    pub plan: String,
    /// None on a server without tenants.
    pub trial: Option<bool>,
    /// Add-ons of the tenant.
    pub addons: Vec<Addon>,
    /// Seconds since 1970.
    pub issued_s: i64,
    /// Seconds since 1970; none: never.
    pub expires_s: Option<i64>,
}

impl Claims {
    /// Claims of a device's token.
    pub fn device(of: DeviceClaims) -> Claims {
        Claims {
            jti: Some(of.jti),
            sub: of.sub.to_string(),
            exp: Some(of.expires_s),
            iat: Some(of.issued_s),
            iss: of.issuer,
            device: Some(true),
            tenant: of.tenant,
            plan: Some(of.plan),
            trial: of.trial,
            addons: Some(of.addons),
            ..Claims::default()
        }
    }

    /// Claims of a user's token.
    pub fn user(of: UserClaims) -> Claims {
        Claims {
            jti: Some(of.jti),
            sub: of.sub,
            exp: of.expires_s,
            iat: Some(of.issued_s),
            nbf: Some(of.issued_s),
            iss: "mender.useradm".to_owned(),
            scp: Some("mender.*".to_owned()),
            user: Some(true),
            tenant: of.tenant,
            plan: Some(of.plan),
            trial: of.trial,
            addons: Some(of.addons),
            ..Claims::default()
        }
    }

    /// Claims of a tenant token, which devices send with their first request.
    pub fn tenant_token(tenant: &str) -> Claims {
        Claims {
            sub: tenant.to_owned(),
            iss: "Mender".to_owned(),
            tenant: Some(tenant.to_owned()),
            ..Claims::default()
        }
    }

    /// Whether the token's time has come and is not over.
    ///
    /// # Errors
    /// [`TokenError::Expired`], or [`TokenError::Malformed`] for a token of the future.
    pub fn check_time(&self, now_ms: i64) -> Result<(), TokenError> {
        let now_s = now_ms.div_euclid(1000);
        if self.exp.is_some_and(|exp| exp <= now_s) {
            return Err(TokenError::Expired);
        }
        // The server's own clock made the token; a step back of a minute must not lock everybody out.
        if self.nbf.is_some_and(|nbf| nbf > now_s + 60) {
            return Err(TokenError::Malformed);
        }
        Ok(())
    }

    /// Whom the token speaks for; none for a tenant token or a mixture.
    pub fn identity(self) -> Option<Identity> {
        let addons = OpenAddons::of_claims(self.addons, self.trial);
        let tenant = TenantId::new(self.tenant.unwrap_or_default());
        match (self.device, self.user) {
            (Some(true), None | Some(false)) => Some(Identity::Device(DeviceIdentity {
                device_id: self.sub,
                tenant,
                jti: self.jti?,
                plan: self.plan.unwrap_or_default(),
                addons,
            })),
            (None | Some(false), Some(true)) => Some(Identity::User(UserIdentity {
                user_id: self.sub,
                tenant,
                jti: self.jti?,
                plan: self.plan.unwrap_or_default(),
                addons,
                grants: Grants::everything(),
            })),
            _ => None,
        }
    }
}
