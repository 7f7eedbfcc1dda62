//! A server of several tenants, and every call checked against the document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use ambidex_harness::{Scratch, Server, api, wait_for};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::client::{Answer, Body, Call};
use crate::device::DeviceKey;
use crate::document::{Document, Guard, Listener};

/// Password of every user made here.
pub const PASSWORD: &str = "correct horse battery";

/// A row of `operations.csv`.
#[derive(Debug, Clone)]
pub struct Row {
    pub number: String,
    pub service: String,
    pub method: String,
    pub path: String,
    pub statuses: Vec<u16>,
}

/// The operations that the specification lists.
pub fn rows() -> Vec<Row> {
    include_str!("../operations.csv")
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            Row {
                number: cells[0].to_owned(),
                service: cells[2].to_owned(),
                method: cells[3].to_owned(),
                path: cells[4].to_owned(),
                statuses: cells[cells.len() - 1]
                    .split_whitespace()
                    .filter_map(|status| status.parse().ok())
                    .collect(),
            }
        })
        .collect()
}

/// A tenant with its first user.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: String,
    pub email: String,
    /// A session of the first user.
    pub user: String,
    /// What its devices show.
    pub token: String,
}

/// The server under test and what was seen of it.
#[derive(Debug)]
pub struct World {
    pub server: Server,
    pub document: Document,
    http: reqwest::Client,
    seen: Mutex<BTreeMap<String, BTreeSet<u16>>>,
}

impl World {
    /// Starts a server with `options` and reads its document.
    ///
    /// # Errors
    /// When it does not start or serves no document.
    pub async fn start(scratch: &Scratch, options: &[&str]) -> Result<World> {
        let server = Server::start_with(scratch.path(), options).await?;
        let http = api::http_client(None)?;
        let fetch = async |base: String| -> Result<Value> {
            let answer = http.get(format!("{base}/api/openapi.json")).send().await?;
            let bytes = answer.error_for_status()?.bytes().await?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        let document = Document::new(
            fetch(server.url()).await.context("the public document")?,
            fetch(server.internal_url())
                .await
                .context("the internal document")?,
        )?;
        Ok(World {
            server,
            document,
            http,
            seen: Mutex::default(),
        })
    }

    /// Makes a tenant with one user, who is logged in.
    ///
    /// # Errors
    /// When the administration verbs fail.
    pub async fn tenant(&self, name: &str, plan: &str) -> Result<Tenant> {
        let email = format!("admin@{name}.example");
        let id = self
            .server
            .administer(&[
                "tenant",
                "create",
                "--name",
                name,
                "--email",
                &email,
                "--password",
                PASSWORD,
                "--plan",
                plan,
            ])
            .await?
            .trim()
            .to_owned();
        let shown = self.server.administer(&["tenant", "show", &id]).await?;
        let shown: Value = serde_json::from_str(&shown)?;
        Ok(Tenant {
            user: self.login(&email).await?,
            token: shown["tenant_token"]
                .as_str()
                .context("the tenant has no token")?
                .to_owned(),
            id,
            email,
        })
    }

    /// Logs a user in.
    ///
    /// # Errors
    /// When the login is refused.
    pub async fn login(&self, email: &str) -> Result<String> {
        let answer = self
            .call(Call::new("useradm_login").basic(email, PASSWORD), 200)
            .await?;
        Ok(answer.text())
    }

    /// Enrols a device: preauthorised, then authenticated. Returns its id and token.
    ///
    /// # Errors
    /// When either is refused.
    pub async fn device(&self, tenant: &Tenant, key: &DeviceKey) -> Result<(String, String)> {
        let body = json!({ "identity_data": key.identity, "pubkey": key.public_pem() });
        let made = self
            .call(
                Call::new("devauth_preauthorize")
                    .by(&tenant.user)
                    .json(body),
                201,
            )
            .await?;
        let token = self.authenticate(tenant, key, 200).await?.text();
        let id = made.created();
        // The neighbours are told right after the commit; wait until they show it.
        wait_for(
            "the device in the inventory",
            std::time::Duration::from_secs(10),
            async || {
                let call = Call::new("inventory_get_device_inventory")
                    .at("id", &id)
                    .by(&tenant.user);
                let answer = self.send(call).await?;
                Ok((answer.status == 200).then_some(()))
            },
        )
        .await?;
        Ok((id, token))
    }

    /// Sends a signed authentication request, expecting `status`.
    ///
    /// # Errors
    /// When it is answered otherwise.
    pub async fn authenticate(
        &self,
        tenant: &Tenant,
        key: &DeviceKey,
        status: u16,
    ) -> Result<Answer> {
        let (body, signature) = key.request(Some(&tenant.token));
        let call = Call::new("devauth_device_authenticate_device")
            .header("X-MEN-Signature", signature)
            .raw("application/json", body);
        self.call(call, status).await
    }

    /// Makes the call and checks that it is answered with `status`, as documented.
    ///
    /// # Errors
    /// When the status is another one, is not documented, or the body does not fit.
    pub async fn call(&self, call: Call, status: u16) -> Result<Answer> {
        let name = call.operation.clone();
        let answer = self.send(call).await?;
        if answer.status != status {
            bail!(
                "{name} answered {} instead of {status}: {}",
                answer.status,
                answer.text()
            );
        }
        Ok(answer)
    }

    /// Makes the call and checks its answer against the document, whatever the status.
    ///
    /// # Errors
    /// When the answer is not a documented one.
    pub async fn send(&self, call: Call) -> Result<Answer> {
        let operation = self.document.operation(&call.operation)?.clone();
        let base = match operation.listener {
            Listener::Public => self.server.url(),
            Listener::Internal => self.server.internal_url(),
        };
        let mut path = operation.path.clone();
        for (name, value) in &call.path {
            path = path.replace(&format!("{{{name}}}"), &encoded(value));
        }
        let method = operation.method.parse()?;
        let mut request = self.http.request(method, format!("{base}{path}"));
        if !call.query.is_empty() {
            let query: Vec<String> = call
                .query
                .iter()
                .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
                .collect();
            request = self.http.request(
                operation.method.parse()?,
                format!("{base}{path}?{}", query.join("&")),
            );
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(token) = &call.token {
            request = request.bearer_auth(token);
        }
        if let Some((name, password)) = &call.basic {
            request = request.basic_auth(name, Some(password));
        }
        request = match call.body {
            Body::None => request,
            Body::Json(value) => request.json(&value),
            Body::Raw(content_type, bytes) => {
                request.header("content-type", content_type).body(bytes)
            }
            Body::Form(form) => request.multipart(form),
        };
        let answer = request
            .send()
            .await
            .with_context(|| format!("calling {}", operation.name))?;
        let answer = Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.bytes().await?.to_vec(),
        };
        let content_type = answer.headers.get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok());
        self.document
            .check(&operation, answer.status, content_type, &answer.body)
            .with_context(|| format!("{} ({} {path})", operation.name, operation.method))?;
        if let Ok(mut seen) = self.seen.lock() {
            seen.entry(operation.name)
                .or_default()
                .insert(answer.status);
        }
        Ok(answer)
    }

    /// Documented statuses that no call of this world has got yet, less those below and the 5xx.
    pub fn untried(&self, services: &[&str], excused: &[(&str, u16)]) -> Vec<String> {
        let seen = self
            .seen
            .lock()
            .map(|seen| seen.clone())
            .unwrap_or_default();
        let mut missing = Vec::new();
        for operation in self.document.operations() {
            if !services
                .iter()
                .any(|service| operation.name.starts_with(service))
            {
                continue;
            }
            // Operations beyond the specification are tried in the tests of their services.
            if operation.number.is_none() {
                continue;
            }
            let got = seen.get(&operation.name);
            for status in &operation.statuses {
                // guarded.rs tries every guarded operation without a token
                let guarded = matches!(operation.guard, Guard::User | Guard::Device);
                let excuse = *status >= 500
                    || (*status == 401 && guarded)
                    || excused.contains(&(operation.name.as_str(), *status));
                if !excuse && !got.is_some_and(|got| got.contains(status)) {
                    missing.push(format!("{} {status}", operation.name));
                }
            }
        }
        missing
    }
}

/// A text as one segment of a path or a query.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
