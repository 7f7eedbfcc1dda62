//! Bodies of tenant administration (specification: management and internal tenant administration).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Name of the organisation.
    pub name: String,
    /// What devices send with their first request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_token: Option<String>,
    /// `active`, `suspended` or `inactive`.
    pub status: String,
    /// `os`, `professional` or `enterprise`.
    pub plan: String,
    /// On trial.
    pub trial: bool,
    /// End of the trial, RFC 3339.
    #[serde(default)]
    pub trial_expiration: Option<String>,
    /// What the tenant may use.
    pub addons: Vec<Addon>,
    /// Call quotas and bursts.
    pub api_limits: TenantApiLimits,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// An add-on and whether the tenant has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// `configure`, `troubleshoot` or `monitor`.
    pub name: String,
    /// Whether it may be used.
    #[serde(default)]
    pub enabled: bool,
}

/// Limits for both kinds of API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantApiLimits {
    /// Counted by user.
    #[serde(default)]
    pub management: ApiLimits,
    /// Counted by device.
    #[serde(default)]
    pub devices: ApiLimits,
}

/// Limits for one kind of API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiLimits {
    /// Limits of single resources.
    #[serde(default)]
    pub bursts: Vec<ApiBurst>,
    /// Limit of all calls together.
    #[serde(default)]
    pub quota: ApiQuota,
}

/// At most one call in each interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiBurst {
    /// HTTP method.
    pub action: String,
    /// Path without query.
    pub uri: String,
    /// Seconds.
    pub min_interval_sec: u64,
}

/// At most so many calls in each interval; 0 calls: no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiQuota {
    /// Calls in an interval.
    #[serde(default)]
    pub max_calls: u64,
    /// Seconds.
    #[serde(default)]
    pub interval_sec: u64,
}

/// Body of the internal `PUT /tenants/{tenant_id}`; what is absent is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TenantUpdate {
    /// Name of the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `os`, `professional` or `enterprise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// On trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<bool>,
    /// End of the trial, RFC 3339; `null` for none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub trial_expiration: Option<Option<String>>,
    /// Call quotas and bursts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_limits: Option<TenantApiLimits>,
    /// What the tenant may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addons: Option<Vec<Addon>>,
}

/// Body of a change of the account's status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// `active` or `suspended`.
    pub status: String,
}

/// A user as tenant administration knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// The id in user administration.
    pub id: String,
    /// Login name.
    pub name: String,
    /// The tenant.
    pub tenant_id: String,
    /// Plan of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Other ways to log in: provider to id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Map<String, Value>>,
}

/// Body of the internal `POST /users`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UserNew {
    /// A fresh id is made when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Login name, unique over all tenants.
    #[serde(default)]
    pub name: String,
    /// The tenant.
    #[serde(default)]
    pub tenant_id: String,
    /// Other ways to log in: provider to id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Map<String, Value>>,
}

/// Body of the internal `PUT /tenants/{tenant_id}/users/{user_id}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UserUpdate {
    /// Login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Other ways to log in: provider to id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Map<String, Value>>,
}

/// Tells `null` from absence.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Body of the three ways to sign up, as JSON or as a form. Unknown fields are ignored.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct SignUp {
    /// Name of the organisation.
    #[serde(default)]
    pub organization: String,
    /// Login name of the first user.
    #[serde(default)]
    pub email: String,
    /// Not needed with `login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What the check for persons gave the browser.
    #[serde(
        rename = "g-recaptcha-response",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub recaptcha: Option<String>,
    /// Name of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `os`, `professional` or `enterprise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Other ways to log in: provider to id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Map<String, Value>>,
}

impl std::fmt::Debug for SignUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignUp")
            .field("organization", &self.organization)
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

/// A tenant that signed up, or that begins an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantShortInfo {
    /// Tenant id.
    pub id: String,
    /// Secret of the payment service; empty when nothing is to be paid.
    pub secret: String,
}

/// Body of `POST /tenants/{id}/cancel`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Body of `POST /tenants/{id}/upgrade/complete`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UpgradeCompleteRequest {
    /// `os`, `professional` or `enterprise`.
    #[serde(default)]
    pub plan: String,
}

/// Body of `POST /tenants/{id}/plan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PlanRequest {
    /// `os`, `professional` or `enterprise`.
    #[serde(default)]
    pub requested_plan: String,
    /// Add-ons, for people to read.
    #[serde(default)]
    pub requested_addons: String,
    /// For people to read.
    #[serde(default)]
    pub user_message: String,
}

/// Body of `POST /contact/support`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SupportRequest {
    /// One line.
    #[serde(default)]
    pub subject: String,
    /// For people to read.
    #[serde(default)]
    pub body: String,
}
