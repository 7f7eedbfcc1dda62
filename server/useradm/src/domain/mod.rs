//! Rules of users, roles and sessions.

pub(crate) mod access;
mod audit;
mod email;
pub(crate) mod mail;
mod password;
pub(crate) mod personal_token;
pub(crate) mod plan;
pub(crate) mod rbac;
pub(crate) mod role;
pub(crate) mod session;
pub(crate) mod settings;
mod sign_up;
mod throttle;
pub(crate) mod totp;
pub(crate) mod two_factor;
pub(crate) mod user;

pub(crate) use email::Email;
pub use sign_up::Vetted;
pub(crate) use throttle::Throttles;

use serde_json::{Map, Value};

/// A user as others may see it.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Random id.
    pub id: String,
    /// Login name, lower case.
    pub email: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// Last login, milliseconds since 1970.
    pub login_ms: Option<i64>,
    /// Other ways to log in: provider to id.
    pub login: Option<Map<String, Value>>,
    /// Names of roles.
    pub roles: Vec<String>,
    /// Whether the user has proven to receive mail at the address.
    pub verified: bool,
    /// The second factor.
    pub two_factor: TwoFactorStatus,
}

/// Where a user's second factor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwoFactorStatus {
    /// None.
    Disabled,
    /// A secret was made; the user has not shown to have it yet. Logins work without it.
    Unverified,
    /// Needed to log in.
    Enabled,
}

impl TwoFactorStatus {
    pub(crate) fn parse(text: &str) -> TwoFactorStatus {
        match text {
            "enabled" => TwoFactorStatus::Enabled,
            "unverified" => TwoFactorStatus::Unverified,
            _ => TwoFactorStatus::Disabled,
        }
    }

    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            TwoFactorStatus::Disabled => "disabled",
            TwoFactorStatus::Unverified => "unverified",
            TwoFactorStatus::Enabled => "enabled",
        }
    }
}

/// What makes a new user able to log in.
#[derive(Clone)]
pub enum Secret {
    /// A password in the clear, to be hashed here.
    Password(String),
    /// A hash made elsewhere: argon2id or bcrypt.
    Hash(String),
    /// Only other ways to log in.
    None,
    /// The user sets a password by the link of a mail.
    Invite,
}

/// A user to be created.
pub struct NewUser {
    /// A fresh id is made when there is none.
    pub id: Option<String>,
    /// Unique over all tenants.
    pub email: String,
    /// How the user proves who he is.
    pub secret: Secret,
    /// Other ways to log in.
    pub login: Option<Map<String, Value>>,
    /// Names of roles; full access if there are none.
    pub roles: Vec<String>,
    /// Whether tenant administration is told.
    pub propagate: bool,
}

impl NewUser {
    /// A user who logs in with a password.
    pub fn with_password(email: impl Into<String>, password: impl Into<String>) -> NewUser {
        NewUser {
            id: None,
            email: email.into(),
            secret: Secret::Password(password.into()),
            login: None,
            roles: Vec::new(),
            propagate: true,
        }
    }
}
