//! The authentication request: body, signature, and the token that answers it.
//!
//! Source: specification "Submit Authentication", reference agent section 1.

use std::fmt;

use ambidex_wire::auth::AuthRequest;

use crate::{
    config::Config,
    identity::{DeviceKey, KeyError},
};

/// A JWT is far smaller; more is not taken into a request header.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A body and the signature over exactly its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    pub body: Vec<u8>,
    /// Standard base64, for the `X-MEN-Signature` header.
    pub signature: String,
}

/// Builds and signs the request.
///
/// # Errors
/// When the key cannot sign.
pub fn sign(config: &Config, id_data: String, key: &DeviceKey) -> Result<SignedRequest, KeyError> {
    let request = AuthRequest {
        id_data,
        pubkey: key.public_pem()?,
        tenant_token: config.tenant_token.clone(),
        tier: Some(config.device_tier.clone()),
    };
    let body = serde_json::to_vec(&request).expect("invariant: a struct of texts is always JSON");
    let signature = key.sign(&body)?;
    Ok(SignedRequest { body, signature })
}

/// The bearer token. Lives in memory only, and never in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes the body of an accepted request: the bare token. The client does not look into it.
    ///
    /// # Errors
    /// When it could not be sent back in a header.
    pub(crate) fn from_body(body: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(body)
            .map_err(|_| "it is not text")?
            .trim();
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err("it is too long");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it is no token");
        }
        Ok(Self(text.to_owned()))
    }

    /// The token itself, for those who may use it besides us.
    #[cfg(feature = "dbus")]
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_token_is_taken() {
        assert_eq!(
            Token::from_body(b"a.b.c\n").unwrap().bearer(),
            "Bearer a.b.c"
        );
        for body in [
            &b""[..],
            b" \n",
            b"<html> x",
            b"a\r\nX: y",
            b"\xff",
            &[b'a'; TOKEN_BYTES_MAX + 1],
        ] {
            assert!(Token::from_body(body).is_err());
        }
    }
}
