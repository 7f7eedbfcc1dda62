//! Kinds of keys, ways to sign with them, and the forms in which tokens hand out what they hold.

use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use ed25519_dalek::pkcs8::{EncodePublicKey as _, spki::der::pem::LineEnding};
use sha2_signatures::{Digest as _, Sha256};

/// What a signature by RSA (PKCS#1 v1.5) puts before a SHA-256 digest (RFC 8017, section 9.2).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
/// The curve P-256, as a token names it (DER).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const SHA256_BYTES: u64 = 32;

/// How a message is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    RsaPkcs1,
    RsaPss,
    EcdsaP256,
    Ed25519,
}

impl Scheme {
    pub fn parse(text: &str) -> Option<Scheme> {
        Some(match text {
            "rsa-pkcs1-sha256" => Scheme::RsaPkcs1,
            "rsa-pss-sha256" => Scheme::RsaPss,
            "ecdsa-p256-sha256" => Scheme::EcdsaP256,
            "ed25519" => Scheme::Ed25519,
            _ => return None,
        })
    }

    /// What the token is to do. Digests are made here: not every token can.
    pub fn mechanism(self) -> Mechanism<'static> {
        match self {
            Scheme::RsaPkcs1 => Mechanism::RsaPkcs,
            Scheme::RsaPss => Mechanism::RsaPkcsPss(PkcsPssParams {
                hash_alg: MechanismType::SHA256,
                mgf: PkcsMgfType::MGF1_SHA256,
                s_len: SHA256_BYTES.into(),
            }),
            Scheme::EcdsaP256 => Mechanism::Ecdsa,
            Scheme::Ed25519 => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)),
        }
    }

    /// What the token signs, for a message.
    pub fn prepared(self, message: &[u8]) -> Vec<u8> {
        let digest = Sha256::digest(message);
        match self {
            Scheme::RsaPkcs1 => [&SHA256_INFO[..], &digest[..]].concat(),
            Scheme::RsaPss | Scheme::EcdsaP256 => digest.to_vec(),
            Scheme::Ed25519 => message.to_vec(),
        }
    }

    /// A token's signature as everybody else writes it; `None` when it is none.
    pub fn finished(self, signature: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Scheme::EcdsaP256 => {
                let pair = p256::ecdsa::Signature::from_slice(&signature).ok()?;
                Some(pair.to_der().as_bytes().to_vec())
            }
            _ => Some(signature),
        }
    }
}

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    Rsa(rsa::RsaPublicKey),
    P256(p256::PublicKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

impl PublicKey {
    /// From modulus and exponent.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<PublicKey> {
        let number = rsa::BigUint::from_bytes_be;
        rsa::RsaPublicKey::new(number(modulus), number(exponent))
            .ok()
            .map(PublicKey::Rsa)
    }

    /// From the curve's name and a point on it.
    pub fn p256(curve: &[u8], point: &[u8]) -> Option<PublicKey> {
        if curve != P256 {
            return None;
        }
        [unwrapped(point), Some(point)]
            .into_iter()
            .flatten()
            .find_map(|point| p256::PublicKey::from_sec1_bytes(point).ok())
            .map(PublicKey::P256)
    }

    /// From a point on the curve Edwards25519.
    pub fn ed25519(point: &[u8]) -> Option<PublicKey> {
        let point = unwrapped(point).unwrap_or(point);
        ed25519_dalek::VerifyingKey::from_bytes(point.try_into().ok()?)
            .ok()
            .map(PublicKey::Ed25519)
    }

    pub fn fits(&self, scheme: Scheme) -> bool {
        matches!(
            (self, scheme),
            (PublicKey::Rsa(_), Scheme::RsaPkcs1 | Scheme::RsaPss)
                | (PublicKey::P256(_), Scheme::EcdsaP256)
                | (PublicKey::Ed25519(_), Scheme::Ed25519)
        )
    }

    /// PEM, `PUBLIC KEY`; `None` when it has no such form, which no key from above has.
    pub fn pem(&self) -> Option<String> {
        match self {
            PublicKey::Rsa(key) => key.to_public_key_pem(LineEnding::LF),
            PublicKey::P256(key) => key.to_public_key_pem(LineEnding::LF),
            PublicKey::Ed25519(key) => key.to_public_key_pem(LineEnding::LF),
        }
        .ok()
    }
}

/// The content of a DER octet string of less than 128 bytes. The standard asks for one around a point; some
/// tokens leave it out.
fn unwrapped(point: &[u8]) -> Option<&[u8]> {
    match point {
        [4, length, content @ ..] if usize::from(*length) == content.len() => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_taken_with_and_without_their_wrapping() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).map(|key| key.public_key());
        let Ok(public) = secret else { panic!("no key") };
        let bare = public.to_sec1_bytes().to_vec();
        let wrapped = [&[4, 65][..], &bare].concat();
        for point in [bare, wrapped] {
            assert_eq!(
                PublicKey::p256(&P256, &point),
                Some(PublicKey::P256(public))
            );
        }
        assert_eq!(PublicKey::p256(&P256, &[4, 1, 4]), None);
        assert_eq!(PublicKey::p256(b"other", &[]), None);
        let public = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let wrapped = [&[4, 32][..], public.as_bytes()].concat();
        for point in [public.as_bytes(), &wrapped[..]] {
            assert_eq!(PublicKey::ed25519(point), Some(PublicKey::Ed25519(public)));
        }
        assert_eq!(PublicKey::ed25519(b"short"), None);
    }

    #[test]
    fn signatures_of_two_numbers_become_a_sequence() {
        let raw = [[1_u8; 32], [2; 32]].concat();
        let Some(der) = Scheme::EcdsaP256.finished(raw) else {
            panic!("refused")
        };
        assert_eq!(der[..4], [0x30, 68, 2, 32]);
        assert_eq!(Scheme::EcdsaP256.finished(vec![1; 63]), None);
    }
}
