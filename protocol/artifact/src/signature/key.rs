//! Keys that sign and verify artifacts.

use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p256::pkcs8::{AssociatedOid as _, DecodePrivateKey as _, DecodePublicKey as _};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::PrivateKeyInfo;
use rsa::pkcs8::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use sha2_signatures::Sha256;

use super::pem::{self, Block};
use crate::digest::Sha256Digest;

/// Why a key cannot be used. Says what to do, never what the key is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct KeyError {
    problem: String,
}

impl KeyError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
        }
    }
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// Shorter RSA keys can be factored by those who want to.
const RSA_BITS_MIN: usize = 2048;

/// A public key that signatures are checked with.
#[derive(Clone)]
pub struct VerifyKey(Public);

#[derive(Clone)]
enum Public {
    Rsa(RsaPublicKey),
    Ec(p256::ecdsa::VerifyingKey),
}

impl std::fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyKey({})", self.describe())
    }
}

impl VerifyKey {
    /// Reads a public key: PEM of a SubjectPublicKeyInfo with RSA (2048 to 4096 bits) or P-256.
    ///
    /// # Errors
    /// Anything else, with what it is and how to make a usable key of it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let Block { label, der } = pem::first_block(text)?;
        match label.as_str() {
            "PUBLIC KEY" => {}
            "RSA PUBLIC KEY" => {
                return Err(KeyError::new(
                    "the public key is in PKCS#1 form; convert it with openssl rsa -RSAPublicKey_in -in KEY -pubout",
                ));
            }
            "CERTIFICATE" => {
                return Err(KeyError::new(
                    "this is a certificate; take the public key out with openssl x509 -in CERT -noout -pubkey",
                ));
            }
            label if label.ends_with("PRIVATE KEY") => {
                return Err(KeyError::new(
                    "this is a private key and a public key is needed; make it with openssl pkey -in KEY -pubout",
                ));
            }
            label => {
                return Err(KeyError::new(format!(
                    "unsupported key type: PEM block {label:?}"
                )));
            }
        }
        let info = SubjectPublicKeyInfoRef::try_from(der.as_slice())
            .map_err(|error| KeyError::new(format!("the public key is damaged ({error})")))?;
        match info.algorithm.oid {
            RSA => RsaPublicKey::from_public_key_der(&der)
                .map_err(|error| {
                    KeyError::new(format!(
                        "the RSA public key is damaged or longer than 4096 bits ({error})"
                    ))
                })
                .and_then(|key| check_rsa_length(&key).map(|()| Self(Public::Rsa(key)))),
            EC => {
                check_curve(info.algorithm.parameters_oid().ok())?;
                p256::ecdsa::VerifyingKey::from_public_key_der(&der)
                    .map(|key| Self(Public::Ec(key)))
                    .map_err(|error| {
                        KeyError::new(format!("the P-256 public key is damaged ({error})"))
                    })
            }
            other => Err(unsupported_type(other)),
        }
    }

    /// Whether `signature` (as decoded from base64) fits `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let digest = Sha256Digest::of(message);
        match &self.0 {
            Public::Rsa(key) => key
                .verify(Pkcs1v15Sign::new::<Sha256>(), digest.as_bytes(), signature)
                .is_ok(),
            Public::Ec(key) => {
                // Raw r||s is what the format writes; key stores and signing services give DER.
                let raw = p256::ecdsa::Signature::from_slice(signature);
                let parsed = raw.or_else(|_| p256::ecdsa::Signature::from_der(signature));
                parsed.is_ok_and(|parsed| key.verify_prehash(digest.as_bytes(), &parsed).is_ok())
            }
        }
    }

    /// Kind and size, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.0 {
            Public::Rsa(key) => format!("RSA {} bit", key.n().bits()),
            Public::Ec(_) => "ECDSA P-256".to_owned(),
        }
    }
}

/// A private key that signs. Its memory is wiped when it is dropped.
pub struct SigningKey(Private);

enum Private {
    Rsa(Box<RsaPrivateKey>),
    Ec(p256::ecdsa::SigningKey),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.verify_key().describe())
    }
}

impl SigningKey {
    /// Reads an unencrypted private key: PEM of PKCS#8, PKCS#1 (RSA) or SEC1 (P-256).
    ///
    /// # Errors
    /// Anything else, with what it is and how to make a usable key of it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let Block { label, der } = pem::first_block(text)?;
        match label.as_str() {
            "RSA PRIVATE KEY" => {
                Self::rsa(RsaPrivateKey::from_pkcs1_der(&der).map_err(|error| error.to_string()))
            }
            "EC PRIVATE KEY" => Self::sec1(&der),
            "PRIVATE KEY" => {
                let info = PrivateKeyInfo::try_from(der.as_slice()).map_err(|error| {
                    KeyError::new(format!("the private key is damaged ({error})"))
                })?;
                match info.algorithm.oid {
                    RSA => Self::rsa(
                        RsaPrivateKey::from_pkcs8_der(&der).map_err(|error| error.to_string()),
                    ),
                    EC => {
                        check_curve(info.algorithm.parameters_oid().ok())?;
                        p256::ecdsa::SigningKey::from_pkcs8_der(&der)
                            .map(|key| Self(Private::Ec(key)))
                            .map_err(|error| {
                                KeyError::new(format!("the P-256 private key is damaged ({error})"))
                            })
                    }
                    other => Err(unsupported_type(other)),
                }
            }
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(KeyError::new(
                "this is a public key, and signing needs the private key",
            )),
            label => Err(KeyError::new(format!(
                "unsupported key type: PEM block {label:?}"
            ))),
        }
    }

    fn rsa(key: Result<RsaPrivateKey, String>) -> Result<Self, KeyError> {
        let key = key
            .map_err(|error| KeyError::new(format!("the RSA private key is damaged ({error})")))?;
        check_rsa_length(&key.to_public_key())?;
        Ok(Self(Private::Rsa(Box::new(key))))
    }

    fn sec1(der: &[u8]) -> Result<Self, KeyError> {
        match p256::SecretKey::from_sec1_der(der) {
            Ok(key) if named_curve(der).is_none_or(|curve| curve == p256::NistP256::OID) => {
                Ok(Self(Private::Ec(key.into())))
            }
            Ok(_) => check_curve(named_curve(der))
                .and(Err(KeyError::new("the EC private key is damaged"))),
            Err(_) => {
                if let Some(curve) = named_curve(der) {
                    check_curve(Some(curve))?;
                }
                Err(KeyError::new(
                    "the EC private key is damaged or of an unsupported curve; artifact signatures use P-256",
                ))
            }
        }
    }

    /// The public key that checks what this key signs.
    #[must_use]
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(match &self.0 {
            Private::Rsa(key) => Public::Rsa(key.to_public_key()),
            Private::Ec(key) => Public::Ec(*key.verifying_key()),
        })
    }

    /// Signs `message`: RSA PKCS#1 v1.5, or ECDSA as raw r||s; both over SHA-256.
    ///
    /// # Errors
    /// When the key turns out to be unusable, for example inconsistent.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let digest = Sha256Digest::of(message);
        let signature = match &self.0 {
            Private::Rsa(key) => key
                .sign_with_rng(
                    &mut rand::rngs::OsRng,
                    Pkcs1v15Sign::new::<Sha256>(),
                    digest.as_bytes(),
                )
                .map_err(|error| KeyError::new(format!("the RSA key cannot sign ({error})")))?,
            Private::Ec(key) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(digest.as_bytes()).map_err(|error| {
                        KeyError::new(format!("the P-256 key cannot sign ({error})"))
                    })?;
                signature.to_bytes().to_vec()
            }
        };
        // A fault in the computation of an RSA signature would give the key away.
        if self.verify_key().verify(message, &signature) {
            Ok(signature)
        } else {
            Err(KeyError::new(
                "the key made a signature that does not verify; it is inconsistent",
            ))
        }
    }
}

fn check_rsa_length(key: &RsaPublicKey) -> Result<(), KeyError> {
    let bits = key.n().bits();
    if bits < RSA_BITS_MIN {
        return Err(KeyError::new(format!(
            "the RSA key has {bits} bits; {RSA_BITS_MIN} are the least that is safe"
        )));
    }
    Ok(())
}

/// The curve that a SEC1 private key names in its optional `[0]` field, an object identifier.
fn named_curve(der: &[u8]) -> Option<ObjectIdentifier> {
    // [0] { OID }: the bytes a0 LEN+2 06 LEN follow the key octets, which have a known place:
    // SEQUENCE { INTEGER 1, OCTET STRING key, [0] .. }.
    let body = der.strip_prefix(&[0x30])?;
    let body = match body.first()? {
        0x81 => body.get(2..)?,
        length if *length < 0x80 => body.get(1..)?,
        _ => return None,
    };
    let body = body.strip_prefix(&[0x02, 0x01, 0x01, 0x04])?;
    let rest = body.get(1 + usize::from(*body.first()?)..)?;
    let rest = rest
        .strip_prefix(&[0xa0])?
        .get(1..)?
        .strip_prefix(&[0x06])?;
    let oid = rest.get(1..1 + usize::from(*rest.first()?))?;
    ObjectIdentifier::from_bytes(oid).ok()
}

fn check_curve(curve: Option<ObjectIdentifier>) -> Result<(), KeyError> {
    match curve {
        Some(p256::NistP256::OID) => Ok(()),
        Some(other) => {
            let name = match other.to_string().as_str() {
                "1.3.132.0.34" => " (P-384)".to_owned(),
                "1.3.132.0.35" => " (P-521)".to_owned(),
                "1.3.132.0.10" => " (secp256k1)".to_owned(),
                _ => String::new(),
            };
            Err(KeyError::new(format!(
                "unsupported key type: elliptic curve {other}{name}; artifact signatures use P-256 \
                 (openssl ecparam -genkey -name prime256v1) or RSA"
            )))
        }
        None => Err(KeyError::new(
            "unsupported key type: the elliptic curve is not named",
        )),
    }
}

fn unsupported_type(oid: ObjectIdentifier) -> KeyError {
    let name = match oid.to_string().as_str() {
        "1.3.101.112" => "Ed25519".to_owned(),
        "1.3.101.113" => "Ed448".to_owned(),
        "1.2.840.113549.1.1.10" => "RSA restricted to PSS".to_owned(),
        other => other.to_owned(),
    };
    KeyError::new(format!(
        "unsupported key type: {name}; artifact signatures use RSA or ECDSA P-256"
    ))
}
