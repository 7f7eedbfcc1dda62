//! The device key: loaded, or made once.
//!
//! A key that is there but cannot be used is never replaced: a new key is a new device for the
//! server. Source: reference agent, section 1, its quirk of overwriting broken keys cured.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ambidex_platform::fs::{self, FsError};
use base64::Engine as _;
use ed25519_dalek::{
    Signer as _,
    pkcs8::{
        DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _,
        spki::der::pem::LineEnding,
    },
};
use rand::rngs::OsRng;
use rsa::{
    pkcs1::DecodeRsaPrivateKey as _, signature::RandomizedSigner as _, traits::PublicKeyParts as _,
};
use sha2_signatures::Sha256;

use super::token::{KeyKind, Scheme, TokenKey};
use crate::config::{Config, KeySource, KeyType};

/// Far above any private key in PEM.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const MODE: u32 = 0o600;
const RSA_BITS: usize = 3072;
/// Larger ones take a small device minutes to sign with.
const RSA_BITS_MAX: usize = 8192;
const RSA_BITS_MIN: usize = 2048;

/// Why there is no key. The text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the device key: {0}")]
    Fs(#[from] FsError),
    #[error(
        "the device key '{}' cannot be used ({reason}); it is left as it is: restore it from a backup, \
         or run 'ambidex-agent bootstrap --forcebootstrap' to make a new one, \
         which has to be accepted on the server again", .path.display()
    )]
    Unusable { path: PathBuf, reason: String },
    #[error("the configured device key '{}' does not exist; it is never generated", .path.display())]
    Absent { path: PathBuf },
    #[error("the key '{key}' in its token: {reason}")]
    Token { key: String, reason: String },
    #[error("no device key could be generated: {reason}")]
    Generation { reason: String },
}

/// A private key that signs authentication requests.
pub struct DeviceKey(Secret);

enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::SecretKey>),
    Rsa(Box<rsa::RsaPrivateKey>),
    /// It stays where it is, and signs there.
    Token(Box<TokenKey>),
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKey({})", self.kind())
    }
}

impl DeviceKey {
    /// Loads the key that the configuration names, or the generated one; makes it when it is absent.
    ///
    /// # Errors
    /// [`KeyError`]; an existing file is never changed, except that its mode becomes 0600.
    pub fn load_or_create(config: &Config) -> Result<Self, KeyError> {
        match &config.auth_private_key {
            Some(KeySource::File(path)) => {
                return load(path)?.ok_or_else(|| KeyError::Absent { path: path.clone() });
            }
            Some(KeySource::Token(uri)) => {
                return Ok(Self(Secret::Token(Box::new(TokenKey::open(uri)?))));
            }
            None => {}
        }
        let path = config.roots.device_key();
        match load(&path)? {
            Some(key) => {
                tighten(&path);
                Ok(key)
            }
            None => Self::create(config),
        }
    }

    /// Makes a new key. One that was there is kept beside it as `….replaced`.
    ///
    /// # Errors
    /// [`KeyError`] when the key is a configured one, or cannot be written.
    pub fn create(config: &Config) -> Result<Self, KeyError> {
        if let Some(source) = &config.auth_private_key {
            return Err(KeyError::Generation {
                reason: format!("'{source}' is configured as the key and is never generated"),
            });
        }
        let path = config.roots.device_key();
        let key = Self::generate(config.key_type)?;
        fs::create_dir(&config.roots.state, 0o700)?;
        if let Some(old) = fs::read_if_present(&path, FILE_BYTES_MAX)? {
            let kept = path.with_extension("pem.replaced");
            fs::write_durable(&kept, &old, MODE)?;
            log::warn!("the previous device key is kept as '{}'", kept.display());
        }
        fs::write_durable(&path, key.private_pem()?.as_bytes(), MODE)?;
        log::info!(
            "a new {} device key was made: '{}'",
            key.kind(),
            path.display()
        );
        Ok(key)
    }

    fn generate(kind: KeyType) -> Result<Self, KeyError> {
        Ok(Self(match kind {
            KeyType::Ed25519 => {
                Secret::Ed25519(Box::new(ed25519_dalek::SigningKey::generate(&mut OsRng)))
            }
            KeyType::EcdsaP256 => Secret::P256(Box::new(p256::SecretKey::random(&mut OsRng))),
            KeyType::Rsa => Secret::Rsa(Box::new(
                rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|error| {
                    KeyError::Generation {
                        reason: error.to_string(),
                    }
                })?,
            )),
        }))
    }

    /// Reads a private key: PKCS#8, PKCS#1 or SEC1, in PEM.
    fn from_pem(text: &str) -> Result<Self, String> {
        let label = text
            .lines()
            .find_map(|line| {
                line.trim()
                    .strip_prefix("-----BEGIN ")?
                    .strip_suffix("-----")
            })
            .ok_or("it is no PEM file")?;
        let secret = match label {
            "PRIVATE KEY" => ed25519_dalek::SigningKey::from_pkcs8_pem(text)
                .map(|key| Secret::Ed25519(Box::new(key)))
                .or_else(|_| {
                    p256::SecretKey::from_pkcs8_pem(text).map(|key| Secret::P256(Box::new(key)))
                })
                .or_else(|_| {
                    rsa::RsaPrivateKey::from_pkcs8_pem(text).map(|key| Secret::Rsa(Box::new(key)))
                })
                .map_err(|_| "it is damaged, or neither RSA, ECDSA P-256 nor Ed25519")?,
            "RSA PRIVATE KEY" => rsa::RsaPrivateKey::from_pkcs1_pem(text)
                .map(|key| Secret::Rsa(Box::new(key)))
                .map_err(|_| "the RSA key is damaged")?,
            "EC PRIVATE KEY" => p256::SecretKey::from_sec1_pem(text)
                .map(|key| Secret::P256(Box::new(key)))
                .map_err(|_| "the EC key is damaged or not of the curve P-256")?,
            "ENCRYPTED PRIVATE KEY" => {
                return Err("it is encrypted; store it without a passphrase".to_owned());
            }
            other => return Err(format!("it holds a '{other}', not a private key")),
        };
        if let Secret::Rsa(key) = &secret {
            let bits = key.n().bits();
            if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
                return Err(format!(
                    "it has {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are used"
                ));
            }
        }
        Ok(Self(secret))
    }

    fn private_pem(&self) -> Result<impl std::ops::Deref<Target = String>, KeyError> {
        match &self.0 {
            Secret::Ed25519(key) => key.to_pkcs8_pem(LineEnding::LF),
            Secret::P256(key) => key.to_pkcs8_pem(LineEnding::LF),
            Secret::Rsa(key) => key.to_pkcs8_pem(LineEnding::LF),
            Secret::Token(_) => {
                return Err(KeyError::Generation {
                    reason: "it stays in its token".to_owned(),
                });
            }
        }
        .map_err(|error| KeyError::Generation {
            reason: error.to_string(),
        })
    }

    /// The public key: PEM, `PUBLIC KEY`.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        match &self.0 {
            Secret::Ed25519(key) => key.verifying_key().to_public_key_pem(LineEnding::LF),
            Secret::P256(key) => key.public_key().to_public_key_pem(LineEnding::LF),
            Secret::Rsa(key) => key.to_public_key().to_public_key_pem(LineEnding::LF),
            Secret::Token(key) => return Ok(key.public_pem().to_owned()),
        }
        .map_err(|error| KeyError::Generation {
            reason: error.to_string(),
        })
    }

    /// Signs exactly these bytes; standard base64 with padding.
    ///
    /// RSA: PKCS#1 v1.5 with SHA-256. P-256: DER of (r, s) over SHA-256. Ed25519: the bytes themselves.
    ///
    /// # Errors
    /// When the key is too small for the digest, which no loaded key is; or the token refuses.
    pub fn sign(&self, bytes: &[u8]) -> Result<String, KeyError> {
        let failed = |error: rsa::signature::Error| KeyError::Generation {
            reason: error.to_string(),
        };
        let signature = match &self.0 {
            Secret::Ed25519(key) => key.sign(bytes).to_bytes().to_vec(),
            Secret::P256(key) => {
                let key = p256::ecdsa::SigningKey::from(key.as_ref());
                let signature: p256::ecdsa::Signature = key.sign(bytes);
                signature.to_der().as_bytes().to_vec()
            }
            Secret::Rsa(key) => {
                use rsa::signature::SignatureEncoding as _;
                // with randomness: blinded against timing
                rsa::pkcs1v15::SigningKey::<Sha256>::new(key.as_ref().clone())
                    .try_sign_with_rng(&mut OsRng, bytes)
                    .map_err(failed)?
                    .to_vec()
            }
            Secret::Token(key) => key.sign(
                match key.kind() {
                    KeyKind::Rsa => Scheme::RsaPkcs1,
                    KeyKind::P256 => Scheme::EcdsaP256,
                    KeyKind::Ed25519 => Scheme::Ed25519,
                },
                bytes,
            )?,
        };
        Ok(base64::engine::general_purpose::STANDARD.encode(signature))
    }

    /// The algorithm, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.0 {
            Secret::Ed25519(_) => "Ed25519",
            Secret::P256(_) => "ECDSA P-256",
            Secret::Rsa(_) => "RSA",
            Secret::Token(_) => "token",
        }
    }
}

fn load(path: &Path) -> Result<Option<DeviceKey>, KeyError> {
    let Some(bytes) = fs::read_if_present(path, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is no PEM file".to_owned());
    text.and_then(DeviceKey::from_pem)
        .map(Some)
        .map_err(|reason| KeyError::Unusable {
            path: path.to_owned(),
            reason,
        })
}

/// A key that others may read is a mistake of whoever put it there; it is corrected with a warning.
fn tighten(path: &Path) {
    let Ok(metadata) = std::fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o177 != 0 {
        log::warn!(
            "the device key '{}' had mode {mode:04o}; it is 0600 now",
            path.display()
        );
        if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)) {
            log::warn!(
                "the mode of '{}' cannot be changed: {error}",
                path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(kind: KeyType) {
        let key = DeviceKey::generate(kind).unwrap();
        let pem = key.private_pem().unwrap().to_string();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{pem}");
        let again = DeviceKey::from_pem(&pem).unwrap();
        assert_eq!(key.public_pem().unwrap(), again.public_pem().unwrap());
        assert!(
            key.public_pem()
                .unwrap()
                .starts_with("-----BEGIN PUBLIC KEY-----\n")
        );
        assert!(!again.sign(b"body").unwrap().is_empty());
    }

    #[test]
    fn ed25519_and_p256_keys_round_trip() {
        round_trip(KeyType::Ed25519);
        round_trip(KeyType::EcdsaP256);
    }

    #[test]
    fn what_is_no_key_is_named() {
        for (text, expected) in [
            ("", "no PEM"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "damaged",
            ),
            (
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                "PUBLIC KEY",
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "encrypted",
            ),
        ] {
            let reason = DeviceKey::from_pem(text).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let key = DeviceKey::generate(KeyType::Ed25519).unwrap();
        assert_eq!(format!("{key:?}"), "DeviceKey(Ed25519)");
    }
}
