//! A device reduced to its requests: what matters is which instance gets them.

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer as _, SigningKey};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

pub const DEVICE_TYPE: &str = "test-host";

/// An identity, a key, and a token once admitted.
#[derive(Debug, Clone)]
pub struct Device {
    http: Client,
    key: SigningKey,
    identity: Value,
    token: String,
}

impl Device {
    pub fn new(http: &Client, number: usize) -> Device {
        Device {
            http: http.clone(),
            key: SigningKey::generate(&mut rand::rngs::OsRng),
            identity: json!({ "mac": format!("02:00:{number:012x}") }),
            token: String::new(),
        }
    }

    /// For the request that admits the device before it asks.
    pub fn preauthorisation(&self) -> Result<Value> {
        Ok(json!({ "identity_data": self.identity, "pubkey": self.public_key()? }))
    }

    fn public_key(&self) -> Result<String> {
        Ok(self.key.verifying_key().to_public_key_pem(LineEnding::LF)?)
    }

    /// Asks `server` for a token; `false` while the device is not accepted.
    pub async fn authenticate(&mut self, server: &str) -> Result<bool> {
        let body = json!({ "id_data": self.identity.to_string(), "pubkey": self.public_key()? });
        let body = body.to_string();
        let signature = STANDARD.encode(self.key.sign(body.as_bytes()).to_bytes());
        let answer = self
            .http
            .post(format!(
                "{server}/api/devices/v1/authentication/auth_requests"
            ))
            .header("X-MEN-Signature", signature)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await?;
        match answer.status() {
            StatusCode::OK => {
                self.token = answer.text().await?;
                Ok(true)
            }
            StatusCode::UNAUTHORIZED => Ok(false),
            status => bail!("auth request: {status}: {}", answer.text().await?),
        }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// Asks `server` for an update on behalf of `artifact`.
    pub async fn poll(&self, server: &str, artifact: &str) -> Result<Option<Value>> {
        let answer = self
            .http
            .get(format!(
                "{server}/api/devices/v1/deployments/device/deployments/next?artifact_name={artifact}&device_type={DEVICE_TYPE}"
            ))
            .bearer_auth(&self.token)
            .send()
            .await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(serde_json::from_slice(&answer.bytes().await?[..])?)),
            StatusCode::NO_CONTENT => Ok(None),
            status => bail!("poll: {status}: {}", answer.text().await?),
        }
    }

    /// Downloads what an answer to [`Device::poll`] points to.
    pub async fn download(&self, instructions: &Value) -> Result<Vec<u8>> {
        let uri = instructions["artifact"]["source"]["uri"]
            .as_str()
            .context("the instructions name no source")?;
        let answer = self.http.get(uri).send().await?;
        if answer.status() != StatusCode::OK {
            bail!("download: {}: {}", answer.status(), answer.text().await?);
        }
        Ok(answer.bytes().await?.to_vec())
    }

    /// Tells `server` how far a deployment is.
    pub async fn report(&self, server: &str, deployment: &str, status: &str) -> Result<()> {
        let path = format!("/api/devices/v1/deployments/device/deployments/{deployment}/status");
        self.put(server, &path, &json!({ "status": status })).await
    }

    /// Tells `server` what the device is like.
    pub async fn send_inventory(&self, server: &str, name: &str, value: &str) -> Result<()> {
        let attributes = json!([{ "name": name, "value": value }]);
        let path = "/api/devices/v1/inventory/device/attributes";
        self.put(server, path, &attributes).await
    }

    async fn put(&self, server: &str, path: &str, body: &Value) -> Result<()> {
        let answer = self
            .http
            .put(format!("{server}{path}"))
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await?;
        if !answer.status().is_success() {
            bail!("{path}: {}: {}", answer.status(), answer.text().await?);
        }
        Ok(())
    }
}
