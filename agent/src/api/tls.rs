//! How servers are authenticated: trust roots, client certificate, name and time checks.
//!
//! Roots: the system's bundle and the configured certificates; without a system bundle the compiled
//! Mozilla roots. A configured file that cannot be used is an error, never silently left out.

use std::{path::Path, sync::Arc};

use ambidex_platform::fs;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

use super::token_key::TlsKey;
use crate::{
    clock,
    config::{KeySource, TlsConfig},
    identity::token::TokenKey,
};

/// Where distributions keep their bundle.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// A full system bundle has about a quarter of this.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Sessions kept for resumption: one server, few connections.
const SESSIONS_MAX: usize = 4;

/// Builds the TLS side of the client.
///
/// # Errors
/// Text that names the key, the file and the remedy.
pub(super) fn client_config(tls: &TlsConfig) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = if tls.skip_verify {
        log::warn!(
            "server certificates are not checked (skip_verify): anybody may pose as the server"
        );
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates("https_client.certificate", &client.certificate)?;
            match &client.key {
                KeySource::File(file) => builder
                    .with_client_auth_cert(chain, private_key(file)?)
                    .map_err(|error| {
                        format!(
                            "https_client: certificate '{}' and key '{}' cannot be used together: {error}",
                            client.certificate.display(),
                            file.display()
                        )
                    })?,
                KeySource::Token(uri) => {
                    let key = TokenKey::open(uri)
                        .map_err(|error| format!("https_client.key: {error}"))?;
                    let key = CertifiedKey::new(chain, Arc::new(TlsKey(Arc::new(key))));
                    builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
                }
            }
        }
    };
    config.time_provider = Arc::new(Clock {
        floor: tls.clock_floor,
    });
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}

/// See [`clock::for_certificates`].
#[derive(Debug)]
struct Clock {
    floor: bool,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(clock::for_certificates(self.floor))
    }
}

fn roots(tls: &TlsConfig) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let bundles = named
        .iter()
        .map(std::path::PathBuf::as_path)
        .chain(BUNDLES.iter().map(Path::new));
    for bundle in bundles {
        // a distribution without this bundle has another; a damaged one is as good as none
        if let Ok(Some(pem)) = fs::read_if_present(bundle, PEM_BYTES_MAX) {
            store.add_parsable_certificates(
                CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok),
            );
        }
        if !store.is_empty() {
            break;
        }
    }
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for file in &tls.server_certificates {
        for certificate in certificates("server_certificate", file)? {
            store.add(certificate).map_err(|error| {
                format!(
                    "server_certificate: '{}' holds a certificate that cannot be trusted: {error}",
                    file.display()
                )
            })?;
        }
    }
    Ok(store)
}

fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read_bounded(file, PEM_BYTES_MAX)
        .map_err(|error| format!("{key}: {error}; check the path in the configuration"))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{key}: '{}' is damaged: {error:?}", file.display()))?;
    if certificates.is_empty() {
        return Err(format!(
            "{key}: '{}' holds no PEM certificate",
            file.display()
        ));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = fs::read_bounded(file, PEM_BYTES_MAX).map_err(|error| {
        format!("https_client.key: {error}; check the path in the configuration")
    })?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        format!(
            "https_client.key: '{}' holds no unencrypted PEM private key",
            file.display()
        )
    })
}

/// `skip_verify`: takes every certificate, but still checks that the peer owns its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
