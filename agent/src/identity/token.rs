//! A key that never leaves its PKCS#11 token. `ambidex-pkcs11` speaks with the token, one process a signature:
//! its library is loaded at run time, which a static program cannot do.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ed25519_dalek::pkcs8::DecodePublicKey as _;

use super::KeyError;
use crate::config::TokenUri;

const HELPER: &str = "ambidex-pkcs11";

/// What a key is, and so how it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Rsa,
    P256,
    Ed25519,
}

/// How a message is signed, by the helper's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    RsaPkcs1,
    RsaPss,
    EcdsaP256,
    Ed25519,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::RsaPkcs1 => "rsa-pkcs1-sha256",
            Self::RsaPss => "rsa-pss-sha256",
            Self::EcdsaP256 => "ecdsa-p256-sha256",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// A key in a token; the token is asked for each signature.
#[derive(Debug, Clone)]
pub struct TokenKey {
    uri: TokenUri,
    public_pem: String,
    kind: KeyKind,
}

impl TokenKey {
    /// Asks the token for the public half. Blocks for as long as the token takes.
    ///
    /// # Errors
    /// [`KeyError::Token`] with the helper's words.
    pub fn open(uri: &TokenUri) -> Result<Self, KeyError> {
        let failed = |reason: &str| KeyError::Token {
            key: uri.to_string(),
            reason: reason.to_owned(),
        };
        let output = ask(uri, &["public-key"], &[])?;
        let public_pem =
            String::from_utf8(output).map_err(|_| failed("its public half is no text"))?;
        let kind = if ed25519_dalek::VerifyingKey::from_public_key_pem(&public_pem).is_ok() {
            KeyKind::Ed25519
        } else if p256::PublicKey::from_public_key_pem(&public_pem).is_ok() {
            KeyKind::P256
        } else if rsa::RsaPublicKey::from_public_key_pem(&public_pem).is_ok() {
            KeyKind::Rsa
        } else {
            return Err(failed("it is neither RSA, ECDSA P-256 nor Ed25519"));
        };
        Ok(Self {
            uri: uri.clone(),
            public_pem,
            kind,
        })
    }

    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The bare signature of a message. Blocks for as long as the token takes.
    ///
    /// # Errors
    /// [`KeyError::Token`] with the helper's words.
    pub fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        ask(&self.uri, &["sign", scheme.name()], message)
    }
}

/// One call of the helper, which ends by itself when the token does not answer.
fn ask(uri: &TokenUri, arguments: &[&str], message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let failed = |reason: String| KeyError::Token {
        key: uri.to_string(),
        reason,
    };
    let helper = helper();
    let mut command = Command::new(&helper);
    command
        .args(arguments)
        // in the environment, which other users cannot read: the URI may hold a PIN
        .env("AMBIDEX_PKCS11_URI", uri.reveal())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(module) = uri.module() {
        command.env("AMBIDEX_PKCS11_MODULE", module);
    }
    let mut child = command.spawn().map_err(|error| {
        failed(format!(
            "'{}' cannot be started ({error}); is {HELPER} installed?",
            helper.display()
        ))
    })?;
    if let Some(mut input) = child.stdin.take() {
        // a helper that fails does not read; it says why below
        let _ = input.write_all(message);
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("ambidex-pkcs11: ");
        Err(failed(said.to_owned()))
    }
}

/// Beside the agent, or wherever the path has it.
fn helper() -> PathBuf {
    env::current_exe()
        .ok()
        .and_then(|agent| agent.parent().map(|folder| folder.join(HELPER)))
        .filter(|helper| helper.is_file())
        .unwrap_or_else(|| Path::new(HELPER).to_owned())
}
