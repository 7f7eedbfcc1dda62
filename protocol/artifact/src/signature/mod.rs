//! Signatures over the manifest.
//!
//! RSA PKCS#1 v1.5 and ECDSA on P-256, both over SHA-256 of the bytes of `manifest`
//! (artifact-format reference, section 4).

mod key;
mod pem;

pub use key::{KeyError, SigningKey, VerifyKey};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;

/// What is known about the signature of an artifact that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureState {
    /// There is none.
    Unsigned,
    /// There is one, and no key was given to check it.
    Unchecked,
    /// Checked: the key at this index fits.
    Verified {
        /// Index in the list of keys that was given.
        key: usize,
    },
    /// Checked with [`Verification::Report`]: no key fits.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What the reader does about signatures.
#[derive(Debug, Clone)]
pub enum Verification {
    /// A signature is noted and not checked.
    Ignore,
    /// One of the keys must fit; an unsigned or wrongly signed artifact is an error before a byte
    /// of the header is looked at. An empty list fits nothing.
    Require(Vec<VerifyKey>),
    /// Like `Require`, but the outcome is only noted in [`Header::signature`](crate::Header): for
    /// tools that show artifacts. Never for installing.
    Report(Vec<VerifyKey>),
}

/// Checks `signature` (the member's content) over `manifest`.
pub(crate) fn check(
    verification: &Verification,
    manifest: &[u8],
    signature: Option<&[u8]>,
) -> Result<SignatureState, Error> {
    let (keys, required) = match verification {
        Verification::Ignore => {
            return Ok(if signature.is_some() {
                SignatureState::Unchecked
            } else {
                SignatureState::Unsigned
            });
        }
        Verification::Require(keys) => (keys, true),
        Verification::Report(keys) => (keys, false),
    };
    let Some(signature) = signature else {
        return if required {
            Err(Error::SignatureMissing)
        } else {
            Ok(SignatureState::Unsigned)
        };
    };
    match find_key(keys, manifest, signature) {
        Ok(key) => Ok(SignatureState::Verified { key }),
        Err(reason) if required => Err(Error::SignatureInvalid { reason }),
        Err(reason) => Ok(SignatureState::Failed { reason }),
    }
}

fn find_key(keys: &[VerifyKey], manifest: &[u8], signature: &[u8]) -> Result<usize, String> {
    let signature = STANDARD
        .decode(signature)
        .map_err(|error| format!("manifest.sig is not one line of base64 ({error})"))?;
    if let Some(index) = keys.iter().position(|key| key.verify(manifest, &signature)) {
        return Ok(index);
    }
    let known: Vec<String> = keys.iter().map(VerifyKey::describe).collect();
    Err(format!(
        "the manifest was not signed with the private key of any configured verification key ({})",
        if known.is_empty() {
            "none is configured".to_owned()
        } else {
            known.join(", ")
        }
    ))
}

/// The content of `manifest.sig`: base64 on one line, no newline.
pub(crate) fn sign(key: &SigningKey, manifest: &[u8]) -> Result<String, Error> {
    let signature = key
        .sign(manifest)
        .map_err(|error| Error::Signing(error.to_string()))?;
    Ok(STANDARD.encode(signature))
}

#[cfg(test)]
mod tests;
