//! Small secrets that must be read again (the shared secret of a second factor), encrypted at rest: whoever
//! gets hold of the database alone cannot read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

/// A secret could not be sealed, or what was sealed cannot be read: another key, another owner, damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret cannot be read: it was sealed with another key or for another owner")]
pub struct SealError;

/// The key and its use. ChaCha20-Poly1305 with random nonces: fine for the few secrets of users.
pub struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Seal {
    /// Seals with `key`, as [`crate::secret`] makes one.
    ///
    /// # Errors
    /// [`SealError`] when the key is refused.
    pub fn new(key: &[u8; 32]) -> Result<Seal, SealError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| SealError)?;
        Ok(Seal {
            key: LessSafeKey::new(key),
            random: SystemRandom::new(),
        })
    }

    /// Seals `secret` for `owner`; for another owner it cannot be opened.
    ///
    /// # Errors
    /// [`SealError`] when the system has no randomness to give.
    pub fn seal(&self, owner: &str, secret: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(owner.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SealError)?;
        Ok(STANDARD_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Opens what [`Seal::seal`] made.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(&self, owner: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let bytes = STANDARD_NO_PAD.decode(sealed).map_err(|_| SealError)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
        let mut body = body.to_vec();
        self.key
            .open_in_place(nonce, Aad::from(owner.as_bytes()), &mut body)
            .map(|secret| secret.to_vec())
            .map_err(|_| SealError)
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn secrets_open_for_their_owner_only() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let sealed = seal.seal("t1/user", b"secret").unwrap();
        assert_ne!(sealed, seal.seal("t1/user", b"secret").unwrap());
        assert_eq!(seal.open("t1/user", &sealed).unwrap(), b"secret");
        assert_eq!(seal.open("t2/user", &sealed), Err(SealError));
        let other = Seal::new(&[8; 32]).unwrap();
        assert_eq!(other.open("t1/user", &sealed), Err(SealError));
        for damaged in ["", "x", "!!", &sealed[1..]] {
            assert_eq!(seal.open("t1/user", damaged), Err(SealError), "{damaged}");
        }
    }
}
