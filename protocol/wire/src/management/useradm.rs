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
