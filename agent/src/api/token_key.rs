//! A client certificate whose key is in a token.
//!
//! TLS asks for a signature in the middle of a handshake and cannot wait: the call blocks for as long as the
//! token takes, which its helper bounds. Such connections have a thread of their own ([`super::dispatch`]).

use std::sync::Arc;

use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    sign::{Signer, SigningKey},
};

use crate::identity::token::{KeyKind, Scheme, TokenKey};

/// The key as TLS sees it.
#[derive(Debug)]
pub(super) struct TlsKey(pub Arc<TokenKey>);

impl TlsKey {
    /// What it can do, the better first.
    fn schemes(&self) -> &'static [(SignatureScheme, Scheme)] {
        match self.0.kind() {
            KeyKind::Rsa => &[
                (SignatureScheme::RSA_PSS_SHA256, Scheme::RsaPss),
                (SignatureScheme::RSA_PKCS1_SHA256, Scheme::RsaPkcs1),
            ],
            KeyKind::P256 => &[(SignatureScheme::ECDSA_NISTP256_SHA256, Scheme::EcdsaP256)],
            KeyKind::Ed25519 => &[(SignatureScheme::ED25519, Scheme::Ed25519)],
        }
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let (tls, token) = self
            .schemes()
            .iter()
            .find(|(scheme, _)| offered.contains(scheme))?;
        Some(Box::new(TlsSigner {
            key: Arc::clone(&self.0),
            tls: *tls,
            token: *token,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.kind() {
            KeyKind::Rsa => SignatureAlgorithm::RSA,
            KeyKind::P256 => SignatureAlgorithm::ECDSA,
            KeyKind::Ed25519 => SignatureAlgorithm::ED25519,
        }
    }
}

#[derive(Debug)]
struct TlsSigner {
    key: Arc<TokenKey>,
    tls: SignatureScheme,
    token: Scheme,
}

impl Signer for TlsSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.key
            .sign(self.token, message)
            .map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.tls
    }
}
