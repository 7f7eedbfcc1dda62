//! A small client of the management API, for tests and the demo. It speaks plain JSON on purpose: a
//! mistake in the shared wire types must not be able to hide from a test.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const REQUEST_LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);
/// Statuses a device deployment does not leave any more.
const FINAL: [&str; 6] = [
    "success",
    "failure",
    "noartifact",
    "already-installed",
    "aborted",
    "decommissioned",
];

/// A logged-in user.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    token: String,
    http: reqwest::Client,
}

/// An HTTP client without connection to the system's certificate store; `root` is a PEM file to trust.
pub fn http_client(root: Option<&Path>) -> Result<reqwest::Client> {
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(path) = root {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let certificates = CertificateDer::pem_file_iter(path)
            .with_context(|| format!("reading the certificates in {}", path.display()))?;
        for certificate in certificates {
            let certificate = certificate.with_context(|| format!("parsing {}", path.display()))?;
            roots
                .add(certificate)
                .with_context(|| format!("trusting {}", path.display()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("setting up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .timeout(REQUEST_LIMIT)
        .build()
        .context("making the HTTP client")
}

impl Api {
    /// Logs in with basic authentication.
    pub async fn login(base: &str, email: &str, password: &str) -> Result<Self> {
        Self::login_trusting(base, email, password, None).await
    }

    /// The same over TLS with a PEM file of certificates to trust besides the public ones.
    pub async fn login_trusting(
        base: &str,
        email: &str,
        password: &str,
        root: Option<&Path>,
    ) -> Result<Self> {
        let base = base.trim_end_matches('/');
        let http = http_client(root)?;
        let answer = http
            .post(format!("{base}/api/management/v1/useradm/auth/login"))
            .basic_auth(email, Some(password))
            .send()
            .await
            .context("logging in")?;
        let status = answer.status();
        let token = answer.text().await.context("reading the token")?;
        if status != StatusCode::OK {
            bail!("the login of {email} was answered with {status}: {token}");
        }
        Ok(Self {
            base: base.to_owned(),
            token: token.trim().trim_matches('"').to_owned(),
            http,
        })
    }

    /// The bearer token, for tools that want one.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Any request; returns status, headers and body. `path` starts with `/api/`.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, reqwest::header::HeaderMap, bytes::Bytes)> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{method} {path}"))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok((
            status,
            headers,
            answer
                .bytes()
                .await
                .with_context(|| format!("the answer to {method} {path}"))?,
        ))
    }

    /// GET, expecting 200 and JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, _, body) = self.request(Method::GET, path, None).await?;
        if status != StatusCode::OK {
            bail!(
                "GET {path} was answered with {status}: {}",
                String::from_utf8_lossy(&body)
            );
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("GET {path} answered with something else than JSON"))
    }

    /// Devices of the authentication service, by status (`pending`, `accepted`, ...).
    pub async fn devices(&self, status: &str) -> Result<Vec<Value>> {
        let found = self
            .get(&format!(
                "/api/management/v2/devauth/devices?status={status}&per_page=100"
            ))
            .await?;
        found
            .as_array()
            .cloned()
            .ok_or_else(|| anyhow!("the list of devices is not an array: {found}"))
    }

    /// Waits for a pending device and accepts its newest pending authentication set. Returns the device id.
    pub async fn accept_next(&self, limit: Duration) -> Result<String> {
        let device = crate::wait_for("a device that asks for admission", limit, async || {
            Ok(self.devices("pending").await?.into_iter().next())
        })
        .await?;
        let id = text(&device, "id")?;
        let set = device["auth_sets"]
            .as_array()
            .and_then(|sets| sets.iter().find(|set| set["status"] == "pending"))
            .with_context(|| {
                format!("the pending device has no pending authentication set: {device}")
            })?;
        let path = format!(
            "/api/management/v2/devauth/devices/{id}/auth/{}/status",
            text(set, "id")?
        );
        let (status, _, body) = self
            .request(Method::PUT, &path, Some(&json!({"status": "accepted"})))
            .await?;
        if status != StatusCode::NO_CONTENT {
            bail!(
                "accepting {id} was answered with {status}: {}",
                String::from_utf8_lossy(&body)
            );
        }
        Ok(id)
    }

    /// The attributes of a device by name, all scopes together.
    pub async fn inventory(&self, device: &str) -> Result<BTreeMap<String, Value>> {
        let found = self
            .get(&format!("/api/management/v1/inventory/devices/{device}"))
            .await?;
        let attributes = found["attributes"].as_array().cloned().unwrap_or_default();
        attributes
            .into_iter()
            .map(|attribute| Ok((text(&attribute, "name")?, attribute["value"].clone())))
            .collect()
    }

    /// Uploads an artifact file without loading it into memory; returns its id.
    pub async fn upload(&self, file: &Path, description: &str) -> Result<String> {
        const BOUNDARY: &str = "ambidex-harness-7d1f0c2b9a";
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("artifact");
        let opened = tokio::fs::File::open(file)
            .await
            .with_context(|| format!("opening {}", file.display()))?;
        let size = opened
            .metadata()
            .await
            .with_context(|| format!("asking for the size of {}", file.display()))?
            .len();
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"description\"\r\n\r\n{description}\r\n\
             --{BOUNDARY}\r\ncontent-disposition: form-data; name=\"size\"\r\n\r\n{size}\r\n\
             --{BOUNDARY}\r\ncontent-disposition: form-data; name=\"artifact\"; filename=\"{name}\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = head.len() as u64 + size + tail.len() as u64;
        let body =
            futures_util::stream::unfold(Upload::Head(head, opened, tail), |state| async move {
                state.next().await
            });
        let answer = self
            .http
            .post(format!(
                "{}/api/management/v1/deployments/artifacts",
                self.base
            ))
            .bearer_auth(&self.token)
            .header(
                "content-type",
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .header("content-length", length)
            .body(reqwest::Body::wrap_stream(body))
            .send()
            .await
            .with_context(|| format!("uploading {}", file.display()))?;
        let status = answer.status();
        let id = last_segment(answer.headers());
        if status != StatusCode::CREATED {
            bail!(
                "the upload of {name} was answered with {status}: {}",
                answer.text().await.unwrap_or_default()
            );
        }
        id.context("the answer to the upload names no artifact in its location header")
    }

    /// The name of the release an uploaded artifact belongs to.
    pub async fn artifact_name(&self, artifact: &str) -> Result<String> {
        text(
            &self
                .get(&format!(
                    "/api/management/v1/deployments/artifacts/{artifact}"
                ))
                .await?,
            "name",
        )
    }

    /// Creates a deployment to the given devices; returns its id.
    pub async fn deploy(
        &self,
        name: &str,
        artifact_name: &str,
        devices: &[&str],
    ) -> Result<String> {
        let path = "/api/management/v1/deployments/deployments";
        let body = json!({"name": name, "artifact_name": artifact_name, "devices": devices});
        let (status, headers, answer) = self.request(Method::POST, path, Some(&body)).await?;
        if status != StatusCode::CREATED {
            bail!(
                "the deployment {name} was answered with {status}: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        last_segment(&headers).context("the answer names no deployment in its location header")
    }

    /// Aborts a deployment.
    pub async fn abort(&self, deployment: &str) -> Result<()> {
        let path = format!("/api/management/v1/deployments/deployments/{deployment}/status");
        let body = json!({"status": "aborted"});
        let (status, _, answer) = self.request(Method::PUT, &path, Some(&body)).await?;
        if status != StatusCode::NO_CONTENT {
            bail!(
                "aborting {deployment} was answered with {status}: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        Ok(())
    }

    /// The deployment as the server shows it.
    pub async fn deployment(&self, deployment: &str) -> Result<Value> {
        self.get(&format!(
            "/api/management/v1/deployments/deployments/{deployment}"
        ))
        .await
    }

    /// The status of one device in a deployment, `None` if the device is not part of it yet.
    pub async fn device_status(&self, deployment: &str, device: &str) -> Result<Option<String>> {
        let path = format!("/api/management/v1/deployments/deployments/{deployment}/devices");
        let found = self.get(&path).await?;
        let devices = found
            .as_array()
            .with_context(|| format!("{path} is not an array: {found}"))?;
        Ok(devices
            .iter()
            .find(|entry| entry["id"] == device)
            .and_then(|entry| entry["status"].as_str())
            .map(str::to_owned))
    }

    /// Waits until the device's status is one of `wanted`; another final status fails at once.
    pub async fn wait_status(
        &self,
        deployment: &str,
        device: &str,
        wanted: &[&str],
        limit: Duration,
    ) -> Result<String> {
        let started = Instant::now();
        let mut seen: Vec<String> = Vec::new();
        loop {
            if let Some(status) = self.device_status(deployment, device).await? {
                if seen.last() != Some(&status) {
                    seen.push(status.clone());
                }
                if wanted.contains(&status.as_str()) {
                    return Ok(status);
                }
                if FINAL.contains(&status.as_str()) {
                    let log = self
                        .deployment_log(deployment, device)
                        .await
                        .unwrap_or_default();
                    bail!(
                        "the deployment ended as {status} instead of {wanted:?} (seen: {seen:?}), log: {log}"
                    );
                }
            }
            if started.elapsed() > limit {
                bail!(
                    "the deployment is not {wanted:?} after {} s, seen: {seen:?}",
                    limit.as_secs()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The deployment log a device has sent; empty if it has not.
    pub async fn deployment_log(&self, deployment: &str, device: &str) -> Result<String> {
        let path =
            format!("/api/management/v1/deployments/deployments/{deployment}/devices/{device}/log");
        let (status, _, body) = self.request(Method::GET, &path, None).await?;
        match status {
            StatusCode::OK => Ok(String::from_utf8_lossy(&body).into_owned()),
            StatusCode::NOT_FOUND => Ok(String::new()),
            _ => bail!(
                "GET {path} was answered with {status}: {}",
                String::from_utf8_lossy(&body)
            ),
        }
    }
}

enum Upload {
    Head(String, tokio::fs::File, String),
    File(tokio::fs::File, String),
    End,
}

impl Upload {
    async fn next(self) -> Option<(std::io::Result<bytes::Bytes>, Self)> {
        use tokio::io::AsyncReadExt as _;
        match self {
            Self::Head(head, file, tail) => Some((Ok(head.into()), Self::File(file, tail))),
            Self::File(mut file, tail) => {
                let mut chunk = bytes::BytesMut::with_capacity(256 * 1024);
                match file.read_buf(&mut chunk).await {
                    Ok(0) => Some((Ok(tail.into()), Self::End)),
                    Ok(_) => Some((Ok(chunk.freeze()), Self::File(file, tail))),
                    Err(error) => Some((Err(error), Self::End)),
                }
            }
            Self::End => None,
        }
    }
}

fn text(value: &Value, key: &str) -> Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("there is no text `{key}` in {value}"))
}

fn last_segment(headers: &reqwest::header::HeaderMap) -> Option<String> {
    let location = headers.get("location")?.to_str().ok()?;
    location
        .rsplit('/')
        .next()
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
}
