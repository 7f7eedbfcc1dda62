//! The one HTTP door of the agent.
//!
//! [`Link`] owns the servers in their order, the device key, the token (in memory only) and the
//! HTTP client. It decides nothing about *when* to talk: every call is one exchange with a deadline,
//! repeated once after a fresh login when the server answers 401. Retrying is the caller's.
//!
//! Concurrency: all state is behind short, never-awaited locks; `Link` is a cheap handle, any number
//! of calls may run at once. Two calls that log in at once are both right, the later token stays.

mod client;
mod dispatch;
mod download;
mod error;
mod failure;
mod proxy;
mod rate;
#[cfg(feature = "remote-terminal")]
mod socket;
mod tls;
mod token_key;
mod transfer;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ambidex_wire::{
    deployments::{Instructions, LogReport, NextRequest, StatusReport},
    inventory::Attribute,
    paths,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use tokio::sync::watch;

pub use download::{Beginning, Download, DownloadHandle, Position, Renewal};
pub use error::{LinkError, LinkErrorKind};

use crate::{
    auth::{self, Token},
    config::Config,
    identity::{self, DeviceKey},
};

/// No answer of the device API is larger; more is not read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A handle on the servers; cheap to clone.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    client: Mutex<Option<Client>>,
    /// Outlives the client: it has the sessions that can be resumed, and reading a key from a token takes its time.
    tls: Mutex<Option<rustls::ClientConfig>>,
    dispatch: dispatch::Dispatch,
    key: Mutex<Option<Arc<DeviceKey>>>,
    session: watch::Sender<Option<Session>>,
    logins: AtomicU64,
}

/// The server that accepted this device, and the token it gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session {
    server: String,
    token: Token,
}

#[cfg(any(feature = "remote-terminal", feature = "dbus"))]
impl Session {
    /// Where the device is logged in.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    #[cfg(feature = "dbus")]
    pub(crate) fn token(&self) -> &str {
        self.token.reveal()
    }
}

struct Answer {
    server: String,
    status: StatusCode,
    headers: header::HeaderMap,
    body: Vec<u8>,
}

struct Call {
    /// Completes "cannot …".
    doing: &'static str,
    method: Method,
    /// Path and query.
    path: String,
    body: Option<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // every critical section is a plain read or assignment: a poisoned value is still whole
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Nothing is opened or read yet; what is missing shows at the first call.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self(Arc::new(Inner {
            config,
            client: Mutex::new(None),
            tls: Mutex::new(None),
            dispatch: dispatch::Dispatch::default(),
            key: Mutex::new(None),
            session: watch::Sender::new(None),
            logins: AtomicU64::new(0),
        }))
    }

    /// How often a new token was obtained; the inventory is sent anew after each.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.0.logins.load(Ordering::Relaxed)
    }

    /// Whether a token is at hand.
    #[must_use]
    pub fn is_authorized(&self) -> bool {
        self.0.session.borrow().is_some()
    }

    /// Where the device is logged in, and every change of that.
    #[cfg(any(feature = "remote-terminal", feature = "dbus"))]
    pub(crate) fn sessions(&self) -> watch::Receiver<Option<Session>> {
        self.0.session.subscribe()
    }

    /// Forgets the token, so that the next call logs in anew.
    pub fn drop_token(&self) {
        self.0.session.send_replace(None);
    }

    /// Loads or makes the device key.
    ///
    /// # Errors
    /// Transient, with the remedy: whatever is wrong on this device may be corrected while the agent
    /// runs, and nothing that the server has to learn may be thrown away until then.
    pub fn ensure_key(&self) -> Result<Arc<DeviceKey>, LinkError> {
        let mut slot = lock(&self.0.key);
        if let Some(key) = slot.as_ref() {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(
            DeviceKey::load_or_create(&self.0.config)
                .map_err(|error| LinkError::transient(error.to_string()))?,
        );
        *slot = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Logs in: asks every server in the configured order until one accepts the device.
    ///
    /// Operation "Submit Authentication".
    ///
    /// # Errors
    /// Unauthorized when a server knows of the device and none accepts it, otherwise what happened
    /// with each server.
    pub async fn authorize(&self) -> Result<(), LinkError> {
        self.log_in().await.map(|_| ())
    }

    async fn log_in(&self) -> Result<Session, LinkError> {
        let config = &self.0.config;
        if config.servers.is_empty() {
            return Err(LinkError::transient(
                "no server is configured: set server_url (ServerURL in mender.conf)",
            ));
        }
        let client = self.client().await?;
        let id_data = identity::data::read(&config.roots)
            .await
            .map_err(|error| LinkError::transient(error.to_string()))?;
        let request = self.signed(id_data).await?;

        let mut failures: Vec<LinkError> = Vec::new();
        for server in &config.servers {
            match self.ask_for_token(&client, server, &request).await {
                Ok(token) => {
                    let session = Session {
                        server: server.clone(),
                        token,
                    };
                    self.0.session.send_replace(Some(session.clone()));
                    self.0.logins.fetch_add(1, Ordering::Relaxed);
                    log::info!("{server} has accepted this device");
                    return Ok(session);
                }
                Err(error) => {
                    log::debug!("{error}");
                    failures.push(error);
                }
            }
        }
        Err(combined(failures))
    }

    /// Making a key, and a token that signs, take their time: not on the task that everything runs on.
    async fn signed(&self, id_data: String) -> Result<auth::SignedRequest, LinkError> {
        let link = self.clone();
        let signing = tokio::task::spawn_blocking(move || {
            let key = link.ensure_key()?;
            auth::sign(link.config(), id_data, &key)
                .map_err(|error| LinkError::transient(error.to_string()))
        });
        signing.await.map_err(|error| {
            LinkError::transient(format!("the login request was not signed: {error}"))
        })?
    }

    async fn ask_for_token(
        &self,
        client: &Client,
        server: &str,
        request: &auth::SignedRequest,
    ) -> Result<Token, LinkError> {
        let doing = "log in";
        let answer = self
            .send(
                server,
                doing,
                client
                    .post(format!("{server}{}", paths::AUTH_REQUESTS))
                    .header(header::AUTHORIZATION, "API_KEY")
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::ACCEPT, "application/json")
                    .header(paths::SIGNATURE_HEADER, &request.signature)
                    .body(request.body.clone()),
            )
            .await?;
        match answer.status {
            StatusCode::OK => Token::from_body(&answer.body).map_err(|reason| {
                LinkError::transient(format!(
                    "{server} gave a token that cannot be used: {reason}"
                ))
            }),
            StatusCode::UNAUTHORIZED => Err(LinkError::new(
                LinkErrorKind::Unauthorized,
                format!(
                    "{} (is the device accepted on the server?)",
                    answer.failure(doing)
                ),
            )),
            _ => Err(answer.failure(doing)),
        }
    }

    /// Asks for a deployment. `provides` holds every provides key including `artifact_name`, and
    /// `device_type`.
    ///
    /// Operation "Check Update", v2, and v1 where the server does not know v2.
    ///
    /// # Errors
    /// What failed; a malformed answer is transient.
    pub async fn next_deployment(
        &self,
        provides: &BTreeMap<String, String>,
    ) -> Result<Option<Instructions>, LinkError> {
        let doing = "check for a deployment";
        let request = NextRequest {
            device_provides: provides.clone(),
        };
        let mut answer = self
            .call(&Call {
                doing,
                method: Method::POST,
                path: paths::NEXT_V2.to_owned(),
                body: Some(json(&request)),
            })
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            let value = |key: &str| escaped(provides.get(key).map_or("", String::as_str));
            let path = format!(
                "{}?artifact_name={}&device_type={}",
                paths::NEXT_V1,
                value("artifact_name"),
                value("device_type")
            );
            answer = self
                .call(&Call {
                    doing,
                    method: Method::GET,
                    path,
                    body: None,
                })
                .await?;
        }
        match answer.status {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::OK => instructions(&answer.body).map(Some).map_err(|reason| {
                LinkError::transient(format!(
                    "{} sent a deployment that cannot be used: {reason}",
                    answer.server
                ))
            }),
            _ => Err(answer.failure(doing)),
        }
    }

    /// Reports how far this device is with a deployment.
    ///
    /// Operation "Update Deployment Status".
    ///
    /// # Errors
    /// Aborted (409) when the deployment was aborted on the server; otherwise what failed.
    pub async fn report_status(&self, id: &str, report: &StatusReport) -> Result<(), LinkError> {
        let path = paths::deployment_status(&escaped(id));
        self.put("report the deployment's status", path, json(report))
            .await
    }

    /// Uploads the log of a deployment.
    ///
    /// Operation "Report Deployment Log".
    ///
    /// # Errors
    /// What failed; permanent when the server does not take it (413).
    pub async fn upload_log(&self, id: &str, log: &LogReport) -> Result<(), LinkError> {
        let path = paths::deployment_log(&escaped(id));
        self.put("upload the deployment's log", path, json(log))
            .await
    }

    /// Replaces the inventory of this device.
    ///
    /// Operation "Assign Attributes" (`PUT`).
    ///
    /// # Errors
    /// What failed.
    pub async fn put_inventory(&self, attributes: &[Attribute]) -> Result<(), LinkError> {
        self.put(
            "send the inventory",
            paths::INVENTORY_ATTRIBUTES.to_owned(),
            json(attributes),
        )
        .await
    }

    /// Starts downloading; the returned value is read on a blocking thread.
    ///
    /// Must be called within the runtime. With a `renewal` a link that has expired in the middle is
    /// replaced by asking for the deployment again.
    #[must_use]
    pub fn download(&self, uri: &str, renewal: Option<Renewal>) -> Download {
        self.take_up(uri, renewal, None)
    }

    /// The same, beginning at a position where an earlier life was interrupted; [`Download::beginning`] tells whether
    /// the server still has that file.
    #[must_use]
    pub fn take_up(
        &self,
        uri: &str,
        renewal: Option<Renewal>,
        position: Option<Position>,
    ) -> Download {
        Download::start(self.clone(), uri.to_owned(), renewal, position)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The client, built when it is first needed: on a thread of its own, because a key in a token takes its time.
    async fn client(&self) -> Result<Client, LinkError> {
        let made = lock(&self.0.client).clone();
        if let Some(client) = made {
            return Ok(client);
        }
        let config = Arc::clone(&self.0.config);
        let tls = lock(&self.0.tls).clone();
        let building = tokio::task::spawn_blocking(move || client::build(&config, tls)).await;
        // not kept when it fails: a missing file may appear later
        let (client, tls) = building
            .map_err(|error| format!("the HTTP client was not set up: {error}"))
            .flatten()
            .map_err(LinkError::transient)?;
        *lock(&self.0.client) = Some(client.clone());
        *lock(&self.0.tls) = Some(tls);
        Ok(client)
    }

    /// Nothing is to be asked for a while: closes the connection that is kept for the next call, whose time limit
    /// would wake the device.
    pub fn rest(&self) {
        *lock(&self.0.client) = None;
    }

    /// Sends a request and waits for the head of the answer.
    async fn dispatch(&self, request: RequestBuilder) -> reqwest::Result<Response> {
        self.0.dispatch.send(&self.0.config.tls, request).await
    }

    async fn put(&self, doing: &'static str, path: String, body: Vec<u8>) -> Result<(), LinkError> {
        let answer = self
            .call(&Call {
                doing,
                method: Method::PUT,
                path,
                body: Some(body),
            })
            .await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(answer.failure(doing))
        }
    }

    /// One authorised exchange; logs in first if needed, and anew once if the token is refused.
    async fn call(&self, call: &Call) -> Result<Answer, LinkError> {
        let known = self.0.session.borrow().clone();
        let (session, fresh) = match known {
            Some(session) => (session, false),
            None => (self.log_in().await?, true),
        };
        let answer = self.call_with(&session, call).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.forget(&session);
        if fresh {
            return Err(answer.failure(call.doing));
        }
        log::info!("{} refused the token; logging in anew", session.server);
        let session = self.log_in().await?;
        let answer = self.call_with(&session, call).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            self.forget(&session);
            return Err(answer.failure(call.doing));
        }
        Ok(answer)
    }

    async fn call_with(&self, session: &Session, call: &Call) -> Result<Answer, LinkError> {
        let mut request = self
            .client()
            .await?
            .request(
                call.method.clone(),
                format!("{}{}", session.server, call.path),
            )
            .header(header::AUTHORIZATION, session.token.bearer())
            .header(header::ACCEPT, "application/json");
        if let Some(body) = &call.body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let outcome = self.send(&session.server, call.doing, request).await;
        if outcome.is_err() && self.0.config.servers.len() > 1 {
            // another server may be alive: the next call logs in from the first one on
            self.forget(session);
        }
        outcome
    }

    async fn send(
        &self,
        server: &str,
        doing: &str,
        request: RequestBuilder,
    ) -> Result<Answer, LinkError> {
        let failed = |error: reqwest::Error| failure::no_answer(doing, server, &error);
        let request = request.timeout(self.0.config.http.request_timeout);
        let mut response = self.dispatch(request).await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(LinkError::transient(format!(
                    "cannot {doing}: {server} answered more than {ANSWER_BYTES_MAX} bytes; is it the right server?"
                )));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer {
            server: server.to_owned(),
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    /// Forgets this session, but not a newer one.
    fn forget(&self, session: &Session) {
        self.0.session.send_if_modified(|slot| {
            let known = slot.as_ref() == Some(session);
            if known {
                *slot = None;
            }
            known
        });
    }
}

impl Answer {
    fn failure(&self, doing: &str) -> LinkError {
        failure::bad_status(doing, &self.server, self.status, &self.headers, &self.body)
    }
}

/// The failures of all servers as one: the one that says most about what to do gives the kind.
fn combined(failures: Vec<LinkError>) -> LinkError {
    let kind = failures
        .iter()
        .map(LinkError::kind)
        .min_by_key(|kind| match kind {
            LinkErrorKind::Unauthorized => 0,
            LinkErrorKind::Transient {
                retry_after: Some(_),
            } => 1,
            LinkErrorKind::Transient { retry_after: None } => 2,
            _ => 3,
        })
        .unwrap_or(LinkErrorKind::Permanent);
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    LinkError::new(kind, texts.join("; "))
}

fn json<T: serde::Serialize + ?Sized>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).expect("invariant: wire bodies are always JSON")
}

/// Percent-encodes everything but unreserved characters.
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("invariant: writing to a String cannot fail");
        }
    }
    out
}

/// Longest deployment id that is taken; real ones have 36 characters.
const DEPLOYMENT_ID_CHARS_MAX: usize = 128;

/// Parses and checks an answer: the id becomes part of paths and file names.
fn instructions(body: &[u8]) -> Result<Instructions, String> {
    let parsed: Instructions = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let id = &parsed.id;
    let plain = id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if id.is_empty() || id.len() > DEPLOYMENT_ID_CHARS_MAX || !plain {
        return Err("its id is not made of letters, digits, '-' and '_'".to_owned());
    }
    let uri = &parsed.artifact.source.uri;
    match reqwest::Url::parse(uri) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(parsed),
        _ => Err("its download link is no http or https URL".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("a b&c/ü~1.0-x_"), "a%20b%26c%2F%C3%BC~1.0-x_");
    }

    #[test]
    fn only_harmless_instructions_are_taken() {
        let body = |id: &str, uri: &str| {
            format!(
                r#"{{"id":"{id}","artifact":{{"artifact_name":"r","source":{{"uri":"{uri}"}},"device_types_compatible":[]}}}}"#
            )
        };
        assert!(instructions(body("a-1_B", "https://h/x?y=z").as_bytes()).is_ok());
        for (id, uri) in [
            ("../x", "http://h/"),
            ("", "http://h/"),
            ("a", "file:///etc/passwd"),
            ("a", "x"),
        ] {
            assert!(
                instructions(body(id, uri).as_bytes()).is_err(),
                "{id} {uri}"
            );
        }
        assert!(instructions(b"{}").is_err());
        assert!(instructions(b"<html>").is_err());
    }

    #[test]
    fn of_many_failures_the_telling_one_gives_the_kind() {
        let refused = LinkError::new(LinkErrorKind::Unauthorized, "b: 401");
        let error = combined(vec![LinkError::transient("a: refused"), refused]);
        assert_eq!(error.kind(), LinkErrorKind::Unauthorized);
        assert_eq!(error.to_string(), "a: refused; b: 401");
    }
}
