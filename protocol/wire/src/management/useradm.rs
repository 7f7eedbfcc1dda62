//! Bodies of user administration (specification: management and internal user administration).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A user as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Random id.
    pub id: String,
    /// Login name, lower case.
    pub email: String,
    /// RFC 3339.
    pub created_ts: String,
    /// RFC 3339.
    pub updated_ts: String,
    /// RFC 3339; absent before the first login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_ts: Option<String>,
    /// Other ways to log in: provider to id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Map<String, Value>>,
    /// Names of roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whether the user has proven to receive mail at the address.
    #[serde(default)]
    pub verified: bool,
    /// `disabled`, `unverified` or `enabled`.
    #[serde(default)]
    pub tfa_status: String,
}

/// Body of `POST /users`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct UserNew {
    /// Unique over all tenants.
    #[serde(default)]
    pub email: String,
    /// At least 8 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Other ways to log in: provider to id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Map<String, Value>>,
    /// Names of roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Asks for a mail with which the user sets a password, whatever password is given here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub send_reset_password: bool,
}

/// Body of `PUT /users/{id}`; what is absent is kept.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct UserUpdate {
    /// Unique over all tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// At least 8 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Other ways to log in: provider to id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Map<String, Value>>,
    /// Names of roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// The password until now; checked when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<String>,
}

/// Body of `PUT /api/management/v2/useradm/users/me`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct OwnPasswordUpdate {
    /// At least 8 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The password until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<String>,
}

/// Body of the internal `POST /tenants/{tenant_id}/users`: exactly one of the two secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct InternalUserNew {
    /// A fresh id is made when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Unique over all tenants.
    #[serde(default)]
    pub email: String,
    /// At least 8 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// A hash made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Whether tenant administration is told; yes unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate: Option<bool>,
}

/// Optional body of `POST /auth/login`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Login {
    /// Code of the second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token2fa: Option<String>,
    /// Asks for a token that does not expire.
    #[serde(default)]
    pub no_expiry: bool,
}

/// What one permission allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permission {
    /// `any`, `http`, `CREATE_DEPLOYMENT`, `VIEW_DEVICE` or `REMOTE_TERMINAL`.
    pub action: String,
    /// On what.
    pub object: PermissionObject,
}

/// What a permission is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PermissionObject {
    /// `any`; a method; `DEVICE_GROUP` or `DEVICE_ID`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `any`; a regular expression; the name of a group or the id of a device.
    pub value: String,
}

/// A role, as version 1 of the API shows and takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Unique in the tenant.
    pub name: String,
    /// For humans.
    #[serde(default)]
    pub description: String,
    /// What the role allows.
    #[serde(default)]
    pub permissions: Vec<Permission>,
}

/// A role, as version 2 of the API shows and takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopedRole {
    /// Unique in the tenant.
    pub name: String,
    /// For humans.
    #[serde(default)]
    pub description: String,
    /// What the role allows, by sets of permissions.
    #[serde(default)]
    pub permission_sets_with_scope: Vec<ScopedPermissionSet>,
    /// What the role allows beyond that; only roles made with version 1 have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<Permission>,
}

/// A set of permissions, perhaps on a part of the fleet only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScopedPermissionSet {
    /// Name of the set.
    pub name: String,
    /// Everything without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// The part of the fleet that a set of permissions is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// `DeviceGroups` or `ReleaseTags`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Names of groups or tags.
    #[serde(default)]
    pub value: Vec<String>,
}

/// A set of permissions with a fixed name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionSet {
    /// Its name.
    pub name: String,
    /// What is done: `Read`, `Manage`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// To what it is done.
    #[serde(default)]
    pub object: String,
    /// For humans.
    pub description: String,
    /// What it allows.
    pub permissions: Vec<Permission>,
    /// Kinds of scopes that it may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported_scope_types: Vec<String>,
}

/// Body of `POST /auth/password-reset/start` and `POST /auth/verify-email/start`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MailRequest {
    /// The user's address.
    #[serde(default)]
    pub email: String,
}

/// Body of `POST /auth/password-reset/complete` and `POST /auth/verify-email/complete`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct MailCompletion {
    /// What the link of the mail carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Another name of the same, used by user interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_hash: Option<String>,
    /// The new password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Answer of `GET /2faqr`.
#[derive(Clone, Serialize, Deserialize)]
pub struct TwoFactorQr {
    /// A PNG in base64.
    pub qr: String,
}

/// Body of `PUT /2faverify`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct TwoFactorCode {
    /// Six digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token2fa: Option<String>,
}

/// Body of `POST /settings/tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PersonalTokenNew {
    /// Unique among the user's tokens.
    #[serde(default)]
    pub name: String,
    /// Seconds; 0 or none: the token does not expire.
    #[serde(default)]
    pub expires_in: Option<i64>,
}

/// A personal access token, without the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalToken {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// RFC 3339; absent before the first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
    /// RFC 3339; absent if it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<String>,
    /// RFC 3339.
    pub created_ts: String,
}

/// A plan and what it contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInfo {
    /// `os`, `professional` or `enterprise`.
    pub name: String,
    /// For humans.
    pub display_name: String,
    /// Feature to whether it is contained.
    pub features: std::collections::BTreeMap<String, bool>,
}

/// The plan of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanBinding {
    /// The plan.
    pub plan: PlanInfo,
    /// `devices`: how many may be accepted; absent if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<std::collections::BTreeMap<String, i64>>,
}

/// Answer of the internal `GET /tenants/{tenant_id}/devices/{device_id}/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emails {
    /// Addresses of the users who may see the device.
    pub emails: Vec<String>,
}
