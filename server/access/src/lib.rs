//! Tokens, keys and passwords: who is calling.
//!
//! [`Keys`] signs and verifies tokens, [`Access`] turns the `Authorization` header of a request into an
//! identity and asks a [`TokenCheck`] whether the token still counts; [`DeviceAuth`] and [`UserAuth`] are
//! the extractors that handlers name. This crate stores nothing but the keys and knows no service: the
//! check is put in by `server/main`.

mod authorization;
mod cache;
mod claims;
mod extract;
mod identity;
mod keys;
mod limits;
mod password;
mod plan;
mod seal;
mod secret_file;

pub use authorization::{Authorization, authorization, basic_credentials};
pub use claims::{Addon, Claims, DeviceClaims, UserClaims};
pub use extract::{Access, Denied, DeviceAuth, TokenCheck, UserAuth};
pub use identity::{DeviceIdentity, Grants, Identity, OpenAddons, TenantId, UserIdentity};
pub use keys::{KeyError, Keys, TOKEN_SIGNING, TokenError};
pub use limits::{Burst, CallGate, CallLimits, LimitSource, TenantLimits};
pub use password::{PasswordError, Passwords};
pub use plan::Plan;
pub use seal::{Seal, SealError};
pub use secret_file::{adopt_secret, secret};
