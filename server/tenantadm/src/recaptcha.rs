//! Whether a person signs up: asks the service that showed the riddle.

use std::time::Duration;

use serde::Deserialize;

use crate::TenantadmError;

/// Where answers are checked unless told otherwise.
pub const DEFAULT_URL: &str = "https://www.google.com/recaptcha/api/siteverify";
/// The whole check.
const CHECK_MAX: Duration = Duration::from_secs(10);
/// Longest answer of a client that is passed on, in bytes; real ones have about 2000.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;

/// A configured check.
#[derive(Clone)]
pub struct Recaptcha {
    secret: String,
    url: String,
    client: reqwest::Client,
}

impl std::fmt::Debug for Recaptcha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recaptcha")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    success: bool,
}

impl Recaptcha {
    /// Checks with `secret` at `url`.
    ///
    /// # Errors
    /// [`TenantadmError::Recaptcha`] when no client can be made.
    pub fn new(secret: &str, url: &str) -> Result<Recaptcha, TenantadmError> {
        let roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TenantadmError::Recaptcha(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(CHECK_MAX)
            .build()
            .map_err(|error| TenantadmError::Recaptcha(error.without_url().to_string()))?;
        Ok(Recaptcha {
            secret: secret.to_owned(),
            url: url.to_owned(),
            client,
        })
    }

    /// # Errors
    /// [`TenantadmError::Unauthorized`] when the answer is wrong, [`TenantadmError::Recaptcha`] when
    /// nobody could tell.
    pub(crate) async fn check(&self, response: &str) -> Result<(), TenantadmError> {
        const WRONG: TenantadmError = TenantadmError::Unauthorized("reCAPTCHA verification failed");
        if response.is_empty() || response.len() > RESPONSE_BYTES_MAX {
            return Err(WRONG);
        }
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("secret", &self.secret)
            .append_pair("response", response)
            .finish();
        let asked = async {
            let answer = self
                .client
                .post(&self.url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form)
                .send()
                .await?
                .error_for_status()?;
            answer.json::<Verdict>().await
        };
        match asked.await {
            Ok(Verdict { success: true }) => Ok(()),
            Ok(_) => Err(WRONG),
            Err(error) => Err(TenantadmError::Recaptcha(error.without_url().to_string())),
        }
    }
}
