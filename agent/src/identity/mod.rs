//! Who this device is: the identity data that the server knows it by, and the key that proves it.
//!
//! Owns the key file and the identity script's contract. Does not own the authentication request
//! (`auth`) or the token (`api`).

pub mod data;
pub mod key;
pub mod token;

pub use data::IdentityError;
pub use key::{DeviceKey, KeyError};
