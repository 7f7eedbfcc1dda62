//! Public keys of devices: reading, normal form, verification of request signatures.
//!
//! Accepts PEM blocks `PUBLIC KEY` (SubjectPublicKeyInfo) of RSA, ECDSA P-256 and P-384, and Ed25519.
//! Two texts of one key have the same normal form, which is what auth sets are compared by.
//! Rules: specification "Authenticate Device", reference section 2.1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature;
use sha2_signatures::{Digest, Sha256};

/// Longest PEM text read: an 8192-bit RSA key takes 1.5 KiB.
pub const PEM_BYTES_MAX: usize = 16 * 1024;
/// Smallest RSA modulus: deployed clients and test suites use 1024 bits; smaller ones can be factored today.
const RSA_BITS_MIN: usize = 1024;
const RSA_BITS_MAX: usize = 8192;

const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const TAG_INTEGER: u8 = 0x02;
const TAG_BIT_STRING: u8 = 0x03;
const TAG_NULL: u8 = 0x05;
const TAG_OID: u8 = 0x06;
const TAG_SEQUENCE: u8 = 0x30;

/// Why a text is no usable public key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublicKeyError {
    #[error("cannot decode public key")]
    Undecodable,
    #[error("unrecognized public key type")]
    Unrecognized,
    #[error("unrecognized public key type: rsa keys need {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")]
    RsaSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A device's public key in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// What the bit string holds: PKCS#1 structure, curve point, or the 32 bytes of Ed25519.
    key: Vec<u8>,
    pem: String,
    hash: String,
}

impl PublicKey {
    /// Reads the first PEM block of a text; what follows the block is ignored.
    pub fn parse(text: &str) -> Result<PublicKey, PublicKeyError> {
        let der = decode_pem(text).ok_or(PublicKeyError::Undecodable)?;
        let (algorithm, key) = read_key_info(&der)?;
        let pem = encode_pem(&der);
        let hash = hex::encode(Sha256::digest(&der));
        Ok(PublicKey {
            algorithm,
            key: key.to_vec(),
            pem,
            hash,
        })
    }

    /// The normal form: 64 columns, one newline at the end.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the key structure in hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether `signature` was made over `message` by the owner of this key: RSA PKCS#1 v1.5 with SHA-256,
    /// ECDSA with SHA-256 as an ASN.1 sequence, Ed25519 over the message itself.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::Rsa => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::P384 => &signature::ECDSA_P384_SHA256_ASN1,
            Algorithm::Ed25519 => &signature::ED25519,
        };
        signature::UnparsedPublicKey::new(algorithm, &self.key)
            .verify(message, signature)
            .is_ok()
    }

    /// As [`PublicKey::verifies`], for the base64 text of the signature header.
    pub fn verifies_base64(&self, message: &[u8], signature: &str) -> bool {
        STANDARD
            .decode(signature.trim())
            .is_ok_and(|signature| self.verifies(message, &signature))
    }
}

fn decode_pem(text: &str) -> Option<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN ";
    if text.len() > PEM_BYTES_MAX {
        return None;
    }
    let start = text.find(BEGIN)?;
    let block = text[start + BEGIN.len()..].strip_prefix("PUBLIC KEY-----")?;
    let end = block.find("-----END PUBLIC KEY-----")?;
    let body: String = block[..end]
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .collect();
    STANDARD.decode(body).ok()
}

fn encode_pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 64);
    pem.push_str("-----BEGIN PUBLIC KEY-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}

/// Reads `SubjectPublicKeyInfo`. Only the one distinguished encoding is accepted, so equal keys have equal bytes.
fn read_key_info(der: &[u8]) -> Result<(Algorithm, &[u8]), PublicKeyError> {
    let undecodable = PublicKeyError::Undecodable;
    let info = whole(der, TAG_SEQUENCE).ok_or(undecodable)?;
    let (identifier, rest) = element(info, TAG_SEQUENCE).ok_or(PublicKeyError::Undecodable)?;
    let bits = whole(rest, TAG_BIT_STRING).ok_or(PublicKeyError::Undecodable)?;
    let (unused, key) = bits.split_first().ok_or(PublicKeyError::Undecodable)?;
    if *unused != 0 {
        return Err(PublicKeyError::Undecodable);
    }
    let (oid, parameters) = element(identifier, TAG_OID).ok_or(PublicKeyError::Undecodable)?;
    let algorithm = match oid {
        OID_RSA => {
            whole(parameters, TAG_NULL)
                .filter(|null| null.is_empty())
                .ok_or(PublicKeyError::Undecodable)?;
            check_rsa(key)?;
            Algorithm::Rsa
        }
        OID_EC => match whole(parameters, TAG_OID).ok_or(PublicKeyError::Undecodable)? {
            OID_P256 => {
                p256::PublicKey::from_sec1_bytes(key).map_err(|_| PublicKeyError::Undecodable)?;
                Algorithm::P256
            }
            OID_P384 => {
                p384::PublicKey::from_sec1_bytes(key).map_err(|_| PublicKeyError::Undecodable)?;
                Algorithm::P384
            }
            _ => return Err(PublicKeyError::Unrecognized),
        },
        OID_ED25519 => {
            if !parameters.is_empty() || key.len() != 32 {
                return Err(PublicKeyError::Undecodable);
            }
            return Ok((Algorithm::Ed25519, key));
        }
        _ => return Err(PublicKeyError::Unrecognized),
    };
    // Compressed points would be a second spelling of the same key.
    if algorithm != Algorithm::Rsa && key.first() != Some(&0x04) {
        return Err(PublicKeyError::Undecodable);
    }
    Ok((algorithm, key))
}

fn check_rsa(key: &[u8]) -> Result<(), PublicKeyError> {
    let numbers = whole(key, TAG_SEQUENCE).ok_or(PublicKeyError::Undecodable)?;
    let (modulus, rest) = element(numbers, TAG_INTEGER).ok_or(PublicKeyError::Undecodable)?;
    let exponent = whole(rest, TAG_INTEGER).ok_or(PublicKeyError::Undecodable)?;
    let modulus = positive(modulus).ok_or(PublicKeyError::Undecodable)?;
    let exponent = positive(exponent).ok_or(PublicKeyError::Undecodable)?;
    let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(PublicKeyError::RsaSize);
    }
    // An even exponent or 1 verifies anything or nothing; the engine takes up to 33 bits.
    let small = exponent.len() == 1 && exponent[0] < 3;
    if small || exponent.len() > 4 || exponent.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(PublicKeyError::Undecodable);
    }
    Ok(())
}

/// The magnitude of a positive, minimally encoded integer.
fn positive(content: &[u8]) -> Option<&[u8]> {
    match content {
        [] => None,
        [0] => None,
        [0, next, ..] if *next >= 0x80 => Some(&content[1..]),
        [first, ..] if *first != 0 && *first < 0x80 => Some(content),
        _ => None,
    }
}

/// One element with this tag at the start; its content and what follows.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (length >= 0x80).then_some((usize::from(length), rest))?
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            (length >= 0x100).then_some((length, rest))?
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn whole(input: &[u8], tag: u8) -> Option<&[u8]> {
    element(input, tag)
        .filter(|(_, rest)| rest.is_empty())
        .map(|(content, _)| content)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use p256::pkcs8::EncodePublicKey as _;
    use p256::pkcs8::LineEnding;
    use rsa::signature::{SignatureEncoding as _, Signer as _};

    const MESSAGE: &[u8] = b"{\"id_data\":\"{}\"}";

    fn rsa_key(bits: usize) -> rsa::RsaPrivateKey {
        rsa::RsaPrivateKey::new(&mut rand::thread_rng(), bits).unwrap()
    }

    #[test]
    fn rsa_signatures_verify_and_changed_messages_do_not() {
        let private = rsa_key(1024);
        let pem = private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let key = PublicKey::parse(&pem).unwrap();
        assert_eq!(key.pem(), pem);
        let signature = rsa::pkcs1v15::SigningKey::<Sha256>::new(private)
            .sign(MESSAGE)
            .to_vec();
        assert!(key.verifies(MESSAGE, &signature));
        assert!(key.verifies_base64(MESSAGE, &STANDARD.encode(&signature)));
        assert!(!key.verifies(b"other", &signature));
        assert!(!key.verifies(MESSAGE, &signature[1..]));
        assert!(!key.verifies_base64(MESSAGE, "***"));
    }

    #[test]
    fn ecdsa_signatures_verify() {
        let private = p256::ecdsa::SigningKey::random(&mut rand::thread_rng());
        let pem = p256::PublicKey::from(private.verifying_key())
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let key = PublicKey::parse(&pem).unwrap();
        assert_eq!(key.pem(), pem);
        let signature: p256::ecdsa::Signature = private.sign(MESSAGE);
        assert!(key.verifies(MESSAGE, signature.to_der().as_bytes()));
        assert!(!key.verifies(b"other", signature.to_der().as_bytes()));

        let private = p384::ecdsa::SigningKey::random(&mut rand::thread_rng());
        let pem = p384::PublicKey::from(private.verifying_key())
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        assert!(PublicKey::parse(&pem).is_ok());
    }

    #[test]
    fn ed25519_signs_the_message_itself() {
        let private = ed25519_dalek::SigningKey::generate(&mut rand::thread_rng());
        let pem = private
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let key = PublicKey::parse(&pem).unwrap();
        let signature: ed25519_dalek::Signature = ed25519_dalek::Signer::sign(&private, MESSAGE);
        assert!(key.verifies(MESSAGE, &signature.to_bytes()));
        assert!(!key.verifies(b"other", &signature.to_bytes()));
    }

    #[test]
    fn spellings_of_one_key_share_the_normal_form() {
        let pem = rsa_key(1024)
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let plain = PublicKey::parse(&pem).unwrap();
        for other in [
            pem.replace('\n', "\r\n"),
            format!("{pem}\nsome text\n"),
            pem.trim_end().to_owned(),
            format!("\n {pem}"),
        ] {
            assert_eq!(PublicKey::parse(&other).unwrap(), plain, "{other:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let private = rsa_key(1024);
        let pem = private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let small = rsa_key(512)
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        assert_eq!(PublicKey::parse(&small), Err(PublicKeyError::RsaSize));
        for bad in [
            "",
            "garbage",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ] {
            assert_eq!(
                PublicKey::parse(bad),
                Err(PublicKeyError::Undecodable),
                "{bad:?}"
            );
        }
        assert_eq!(
            PublicKey::parse(&pem.replace("PUBLIC KEY", "RSA PUBLIC KEY")),
            Err(PublicKeyError::Undecodable)
        );
        assert_eq!(
            PublicKey::parse(&"x".repeat(PEM_BYTES_MAX + 1)),
            Err(PublicKeyError::Undecodable)
        );
        // X25519: well formed, but no signature key.
        let exchange = encode_pem(
            &[
                &[
                    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00,
                ][..],
                &[7; 32],
            ]
            .concat(),
        );
        assert_eq!(
            PublicKey::parse(&exchange),
            Err(PublicKeyError::Unrecognized)
        );
    }

    #[test]
    fn truncated_and_flipped_encodings_never_panic() {
        let der = decode_pem(
            &rsa_key(1024)
                .to_public_key()
                .to_public_key_pem(LineEnding::LF)
                .unwrap(),
        )
        .unwrap();
        for end in 0..der.len() {
            assert!(read_key_info(&der[..end]).is_err());
        }
        for index in 0..40 {
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[index] ^= 1 << bit;
                let _ = read_key_info(&changed);
            }
        }
    }
}
