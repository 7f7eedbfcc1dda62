//! The server's signing key and the tokens made with it (JSON Web Tokens, RS256).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use serde::Deserialize;

use crate::Claims;
use crate::cache::SeenTokens;
use crate::secret_file::read_or_create;

/// Name of the file of the key that signs tokens.
pub const TOKEN_SIGNING: &str = "token-signing.pem";
/// Strength of a key made here; a larger one put in place by the operator is used as it is.
const RSA_BITS: usize = 2048;
/// Tokens are about 700 bytes; longer ones are refused before any work.
const TOKEN_BYTES_MAX: usize = 8192;
/// `{"alg":"RS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error(
        "cannot use the key file {path}: {reason}; check that the data directory belongs to the user of the server"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The content is not a usable key.
    #[error(
        "the key file {path} is not usable: {reason}; restore it from a backup, or remove it to make a new one (all tokens become invalid)"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A new key could not be made.
    #[error("cannot make a signing key: {0}")]
    Generate(String),
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this server's form.
    #[error("malformed token")]
    Malformed,
    /// Not signed by this server.
    #[error("invalid token signature")]
    Signature,
    /// Signed, but its time is over.
    #[error("token expired")]
    Expired,
    /// Could not be signed.
    #[error("signing failed")]
    Sign,
}

/// The signing key, its public half and a memory of tokens whose signature was checked before.
pub struct Keys {
    pair: RsaKeyPair,
    public: Vec<u8>,
    random: SystemRandom,
    seen: SeenTokens,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

impl Keys {
    /// Loads the key from `dir`, or makes it there (mode 0600) at the first start.
    ///
    /// # Errors
    /// [`KeyError`] names the file.
    pub fn open(dir: &Path) -> Result<Keys, KeyError> {
        let pem = read_or_create(dir, TOKEN_SIGNING, || {
            let key = RsaPrivateKey::new(&mut rand::rngs::OsRng, RSA_BITS)
                .map_err(|e| KeyError::Generate(e.to_string()))?;
            let pem = key
                .to_pkcs8_pem(LineEnding::LF)
                .map_err(|e| KeyError::Generate(e.to_string()))?;
            Ok(pem.as_bytes().to_vec())
        })?;
        Keys::from_pem(&pem).map_err(|reason| KeyError::Unusable {
            path: dir.join(TOKEN_SIGNING),
            reason,
        })
    }

    fn from_pem(pem: &[u8]) -> Result<Keys, String> {
        let text = std::str::from_utf8(pem).map_err(|e| e.to_string())?;
        let der = RsaPrivateKey::from_pkcs8_pem(text)
            .and_then(|key| key.to_pkcs8_der())
            .map_err(|e| format!("not an RSA key in PKCS#8 PEM form: {e}"))?;
        let pair = RsaKeyPair::from_pkcs8(der.as_bytes())
            .map_err(|e| format!("RSA key refused: {e} (2048 to 4096 bits are supported)"))?;
        Ok(Keys {
            public: pair.public_key().as_ref().to_vec(),
            pair,
            random: SystemRandom::new(),
            seen: SeenTokens::default(),
        })
    }

    /// Signs claims (about half a millisecond).
    ///
    /// # Errors
    /// [`TokenError::Sign`] when the system has no randomness to give.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let body = serde_json::to_vec(claims).map_err(|_| TokenError::Sign)?;
        let mut token = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(body));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &self.random,
                token.as_bytes(),
                &mut signature,
            )
            .map_err(|_| TokenError::Sign)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        Ok(token)
    }

    /// Checks form and signature, not the time: see [`Claims::check_time`].
    ///
    /// # Errors
    /// [`TokenError::Malformed`] or [`TokenError::Signature`].
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, body) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let fingerprint = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        if !self.seen.contains(fingerprint.as_ref()) {
            let header: Header = decode(header)?;
            if header.alg != "RS256" {
                return Err(TokenError::Malformed);
            }
            let signature = URL_SAFE_NO_PAD
                .decode(signature)
                .map_err(|_| TokenError::Malformed)?;
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public)
                .verify(signed.as_bytes(), &signature)
                .map_err(|_| TokenError::Signature)?;
            self.seen.insert(fingerprint.as_ref());
        }
        decode(body)
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use crate::{DeviceClaims, Identity};
    use uuid::Uuid;

    fn claims() -> Claims {
        Claims::device(DeviceClaims {
            jti: Uuid::from_u128(1),
            sub: Uuid::from_u128(2),
            tenant: Some("t1".to_owned()),
            plan: "enterprise".to_owned(),
            trial: None,
            addons: crate::Addon::all_enabled(),
            issuer: "Mender".to_owned(),
            issued_s: 1000,
            expires_s: 2000,
        })
    }

    #[test]
    fn tokens_survive_a_restart_and_carry_the_documented_claims() {
        let dir = tempfile::tempdir().unwrap();
        let token = Keys::open(dir.path()).unwrap().sign(&claims()).unwrap();
        let again = Keys::open(dir.path()).unwrap();
        let verified = again.verify(&token).unwrap();
        assert_eq!(again.verify(&token).unwrap(), verified, "also from memory");
        let json: serde_json::Value = decode(token.split('.').nth(1).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "jti": "00000000-0000-0000-0000-000000000001",
                "sub": "00000000-0000-0000-0000-000000000002",
                "iss": "Mender", "iat": 1000, "exp": 2000,
                "mender.device": true, "mender.tenant": "t1", "mender.plan": "enterprise",
                "mender.addons": [
                    {"name": "configure", "enabled": true},
                    {"name": "troubleshoot", "enabled": true},
                    {"name": "monitor", "enabled": true},
                ],
            })
        );
        assert!(
            matches!(verified.identity(), Some(Identity::Device(d)) if d.tenant.as_str() == "t1")
        );
    }

    #[test]
    fn forged_tokens_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        let token = keys.sign(&claims()).unwrap();
        let foreign = Keys::open(other.path()).unwrap().sign(&claims()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let hmac = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let mut body: serde_json::Value = decode(parts[1]).unwrap();
        body["sub"] = "00000000-0000-0000-0000-000000000009".into();
        let altered = URL_SAFE_NO_PAD.encode(body.to_string());
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        for (what, forged, wanted) in [
            ("other key", foreign, TokenError::Signature),
            (
                "altered",
                format!("{}.{altered}.{}", parts[0], parts[2]),
                TokenError::Signature,
            ),
            (
                "none",
                format!("{none}.{}.", parts[1]),
                TokenError::Malformed,
            ),
            (
                "hmac",
                format!("{hmac}.{}.{}", parts[1], parts[2]),
                TokenError::Malformed,
            ),
            (
                "no signature",
                format!("{}.{}.", parts[0], parts[1]),
                TokenError::Signature,
            ),
            (
                "two parts",
                format!("{}.{}", parts[0], parts[1]),
                TokenError::Malformed,
            ),
            ("padding", format!("{token}="), TokenError::Malformed),
            ("long", long, TokenError::Malformed),
            ("empty", String::new(), TokenError::Malformed),
        ] {
            assert_eq!(keys.verify(&forged), Err(wanted), "{what}");
        }
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(TOKEN_SIGNING), "nonsense").unwrap();
        let error = Keys::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(TOKEN_SIGNING) && error.contains("restore"),
            "{error}"
        );
    }
}
