//! A device's key and its signed authentication requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

/// An identity with a key.
#[derive(Debug, Clone)]
pub struct DeviceKey {
    pub identity: Value,
    key: SigningKey,
}

impl DeviceKey {
    /// A fresh key for the identity `{"mac": mac}`.
    pub fn new(mac: &str) -> DeviceKey {
        DeviceKey {
            identity: json!({ "mac": mac }),
            key: SigningKey::generate(&mut rand::rngs::OsRng),
        }
    }

    /// The public key in PEM.
    pub fn public_pem(&self) -> String {
        self.key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap_or_default()
    }

    /// The body of an authentication request and its signature.
    pub fn request(&self, tenant_token: Option<&str>) -> (String, String) {
        let mut body = json!({
            "id_data": self.identity.to_string(),
            "pubkey": self.public_pem(),
        });
        if let Some(token) = tenant_token {
            body["tenant_token"] = token.into();
        }
        let body = body.to_string();
        let signature = STANDARD.encode(self.key.sign(body.as_bytes()).to_bytes());
        (body, signature)
    }
}
