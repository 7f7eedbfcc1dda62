//! Password hashes, made and checked on few threads.
//!
//! A check costs tens of milliseconds and 19 MiB on purpose. So that a flood of logins cannot take the
//! machine, only some run at once and only some may wait; the rest is refused at once.

use std::sync::Arc;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Argon2, Params};
use tokio::sync::Semaphore;

/// Logins that may wait for their turn.
const WAITING_MAX: usize = 64;
/// Imported hashes may not ask for more than this, in KiB and passes.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
/// A well-formed hash that no password has: checked when the user is unknown, so that the answer takes
/// as long as for a known one.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting.
    #[error("too many logins at the same time: try again later")]
    Busy,
    /// The hashing failed.
    #[error("password hashing failed: {0}")]
    Hash(String),
}

/// The bounded pool. Clones share it.
#[derive(Clone)]
pub struct Passwords(Arc<Pool>);

struct Pool {
    running: Semaphore,
    waiting: Semaphore,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords::new()
    }
}

impl Passwords {
    /// As many at once as the machine has processors, at most four.
    pub fn new() -> Passwords {
        let running = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        Passwords(Arc::new(Pool {
            running: Semaphore::new(running),
            waiting: Semaphore::new(WAITING_MAX),
        }))
    }

    /// A new argon2id hash in PHC form.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.run(move || {
            Argon2::default()
                .hash_password(password.as_bytes(), &SaltString::generate(&mut OsRng))
                .map(|hash| hash.to_string())
                .map_err(|e| PasswordError::Hash(e.to_string()))
        })
        .await
    }

    /// Whether `password` has the hash `stored` (argon2id, or bcrypt of imported users). `None` for an
    /// unknown user: the same work is done and the answer is no.
    ///
    /// # Errors
    /// [`PasswordError`]; a hash of an unknown form is [`PasswordError::Hash`].
    pub async fn verify(
        &self,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, PasswordError> {
        self.run(move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(NOBODY);
            let right = if is_bcrypt(stored) {
                bcrypt::verify(&password, stored).map_err(|e| PasswordError::Hash(e.to_string()))?
            } else {
                let hash = parse_argon2(stored)?;
                Argon2::default()
                    .verify_password(password.as_bytes(), &hash)
                    .is_ok()
            };
            Ok(known && right)
        })
        .await
    }

    /// Whether a hash that comes from outside can be checked here.
    pub fn supports(hash: &str) -> bool {
        if is_bcrypt(hash) {
            // `$2b$10$` and 53 characters of salt and hash.
            return hash.len() == 60
                && hash
                    .get(4..6)
                    .and_then(|cost| cost.parse::<u32>().ok())
                    .is_some_and(|cost| (4..=14).contains(&cost));
        }
        parse_argon2(hash).is_ok()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _waiting = self
            .0
            .waiting
            .try_acquire()
            .map_err(|_| PasswordError::Busy)?;
        let _running = self
            .0
            .running
            .acquire()
            .await
            .map_err(|_| PasswordError::Busy)?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| PasswordError::Hash(e.to_string()))?
    }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|prefix| hash.starts_with(prefix))
}

fn parse_argon2(text: &str) -> Result<PasswordHash<'_>, PasswordError> {
    let hash = PasswordHash::new(text).map_err(|e| PasswordError::Hash(e.to_string()))?;
    let params = Params::try_from(&hash).map_err(|e| PasswordError::Hash(e.to_string()))?;
    if hash.algorithm.as_str() != "argon2id"
        || hash.hash.is_none()
        || params.m_cost() > MEMORY_KIB_MAX
        || params.t_cost() > PASSES_MAX
    {
        return Err(PasswordError::Hash("unsupported password hash".to_owned()));
    }
    Ok(hash)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_are_salted_and_checked() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        let other = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert_ne!(hash, other);
        for (password, wanted) in [
            ("correct horse", true),
            ("Correct horse", false),
            ("", false),
        ] {
            let right = passwords
                .verify(password.to_owned(), Some(hash.clone()))
                .await
                .unwrap();
            assert_eq!(right, wanted, "{password}");
        }
        assert!(
            !passwords.verify("x".to_owned(), None).await.unwrap(),
            "unknown user"
        );
    }

    #[tokio::test]
    async fn imported_bcrypt_hashes_are_checked() {
        let hash = bcrypt::hash("imported", 4).unwrap();
        let passwords = Passwords::new();
        assert!(Passwords::supports(&hash));
        assert!(
            passwords
                .verify("imported".to_owned(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("other".to_owned(), Some(hash))
                .await
                .unwrap()
        );
    }

    #[test]
    fn hashes_of_other_forms_are_refused() {
        assert!(Passwords::supports(NOBODY));
        for bad in [
            "",
            "plain",
            "$2b$31$CwTycUXWue0Thq9StjUM0uJ8lrKXv1z0xqz0L6nQ8o7m0r7m0r7m0",
            "$argon2i$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(!Passwords::supports(bad), "{bad}");
        }
    }
}
