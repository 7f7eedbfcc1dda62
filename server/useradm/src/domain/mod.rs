//! Rules of users and sessions.

mod email;
mod password;
mod plan;
pub(crate) mod session;
mod sign_up;
pub(crate) mod user;

pub(crate) use email::Email;
pub(crate) use plan::Plan;
pub use sign_up::Vetted;

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
    /// Roles; only full access exists.
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
