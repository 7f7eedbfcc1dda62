//! The way to other instances: one connection to a NATS server.
//!
//! The connection never hands our own messages back to us (`no_echo`): within the instance they went from
//! hand to hand already. Each subscription has a task that moves what arrives into the subscriber's queue
//! at once, so that the client's own queue, which drops silently when full, stays empty. Nothing is
//! published while the connection is down: a hint or a keystroke that arrives a minute late is worse than
//! an error now.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt as _;
use percent_encoding::percent_decode_str;
use tokio::task::AbortHandle;
use url::Url;

use crate::queue::Queue;
use crate::{Bus, BusError, Message, PAYLOAD_BYTES_MAX};

/// How long the start waits for the first connection before it goes on without.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);
/// Between proofs of life; a peer that is gone without a word is noticed after two.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// A round trip to the server; longer means that it is not well.
const ROUND_TRIP: Duration = Duration::from_secs(5);
/// First word of our subjects unless told otherwise.
const PREFIX: &str = "ambidex";

/// What the address says.
#[derive(Debug, Default, PartialEq)]
struct Config {
    servers: Vec<Url>,
    user: Option<(String, String)>,
    token: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    credentials: Option<PathBuf>,
    prefix: String,
}

fn config_error(text: impl Into<String>) -> BusError {
    BusError::Config(text.into())
}

impl Config {
    /// Errors never show the address: it may hold a password.
    fn parse(text: &str) -> Result<Config, BusError> {
        let (servers, query) = text.split_once('?').unwrap_or((text, ""));
        let mut config = Config {
            prefix: PREFIX.to_owned(),
            ..Config::default()
        };
        for server in servers.split(',') {
            config.add_server(server.trim())?;
        }
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let file = Some(PathBuf::from(value.as_ref()));
            match name.as_ref() {
                "ca" => config.ca = file,
                "cert" => config.cert = file,
                "key" => config.key = file,
                "credentials" => config.credentials = file,
                "prefix" => {
                    crate::subject::check(&value)?;
                    config.prefix = value.into_owned();
                }
                other => return Err(config_error(format!("unknown option {other} in its URL"))),
            }
        }
        if config.cert.is_some() != config.key.is_some() {
            return Err(config_error("cert= and key= go together"));
        }
        Ok(config)
    }

    fn add_server(&mut self, text: &str) -> Result<(), BusError> {
        let mut url = Url::parse(text)
            .map_err(|e| config_error(format!("not a URL of the form nats://HOST:PORT: {e}")))?;
        if !matches!(url.scheme(), "nats" | "tls") || url.host().is_none() {
            return Err(config_error("the URL must begin with nats:// or tls://"));
        }
        let decoded = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| config_error("user name or password is not UTF-8"))
        };
        let user = decoded(url.username())?;
        match url.password() {
            Some(password) => self.user = Some((user, decoded(password)?)),
            None if !user.is_empty() => self.token = Some(user),
            None => {}
        }
        // Neither fails for a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        self.servers.push(url);
        Ok(())
    }

    async fn options(&self) -> Result<ConnectOptions, BusError> {
        let mut options = ConnectOptions::new()
            .name("ambidex-server")
            .no_echo()
            .ping_interval(PING_INTERVAL)
            .retry_on_initial_connect()
            .event_callback(|event| async move { log(&event) });
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(file) = &self.ca {
            options = options.add_root_certificates(readable(file)?);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            options = options.add_client_certificate(readable(cert)?, readable(key)?);
        }
        if let Some(file) = &self.credentials {
            options = options
                .credentials_file(file)
                .await
                .map_err(|e| config_error(format!("credentials {}: {e}", file.display())))?;
        }
        Ok(options)
    }
}

/// The client reads these files at each connection and would try an absent one for ever.
fn readable(file: &PathBuf) -> Result<PathBuf, BusError> {
    match std::fs::File::open(file) {
        Ok(_) => Ok(file.clone()),
        Err(e) => Err(config_error(format!("{}: {e}", file.display()))),
    }
}

fn log(event: &Event) {
    match event {
        Event::Connected => tracing::info!("NATS: connected"),
        Event::Disconnected => {
            tracing::warn!("NATS: the connection is lost; trying to get it back");
        }
        Event::SlowConsumer(_) => tracing::error!("NATS: messages were dropped"),
        Event::ServerError(error) => tracing::error!("NATS: the server says: {error}"),
        Event::ClientError(error) => tracing::warn!("NATS: {error}"),
        other => tracing::info!("NATS: {other}"),
    }
}

pub(crate) struct Nats {
    client: Client,
    prefix: String,
}

/// The task that brings messages from afar. Ends when dropped.
pub(crate) struct Remote(AbortHandle);

impl Drop for Remote {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nats {
    pub(crate) async fn connect(url: &str) -> Result<Nats, BusError> {
        let config = Config::parse(url)?;
        // Fails when somebody chose before us, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let servers = config
            .servers
            .iter()
            .map(|url| ServerAddr::from_url(url.clone()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| config_error(e.to_string()))?;
        let client = config
            .options()
            .await?
            .connect(servers)
            .await
            .map_err(|e| config_error(e.to_string()))?;
        let nats = Nats {
            client,
            prefix: config.prefix,
        };
        if let Err(error) = tokio::time::timeout(FIRST_CONNECTION, nats.round_trip())
            .await
            .unwrap_or_else(|_| Err(BusError::Unavailable("no answer from NATS".to_owned())))
        {
            tracing::warn!(%error, "going on without NATS for now; other instances are not reached");
        }
        Ok(nats)
    }

    fn subject(&self, subject: &str) -> String {
        format!("{}.{subject}", self.prefix)
    }

    fn require_connection(&self) -> Result<(), BusError> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err(BusError::Unavailable(
                "there is no connection to NATS".to_owned(),
            )),
        }
    }

    pub(crate) async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        self.publish_raw(self.subject(subject), payload).await
    }

    pub(crate) async fn publish_raw(
        &self,
        subject: String,
        payload: Bytes,
    ) -> Result<(), BusError> {
        self.require_connection()?;
        let bytes = payload.len();
        // The client's queue of commands is bounded and stands still when the connection breaks.
        match tokio::time::timeout(ROUND_TRIP, self.client.publish(subject, payload)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(self.too_large(bytes))
            }
            Ok(Err(error)) => Err(BusError::Unavailable(error.to_string())),
            Err(_) => Err(BusError::Unavailable("NATS takes no messages".to_owned())),
        }
    }

    fn too_large(&self, bytes: usize) -> BusError {
        let server = self.client.server_info().max_payload;
        BusError::TooLarge {
            bytes,
            bytes_max: PAYLOAD_BYTES_MAX.min(server),
        }
    }

    /// Returns when the server knows of the interest. While there is no connection it returns at once:
    /// the client subscribes again as soon as there is one.
    pub(crate) async fn subscribe(
        &self,
        subject: &str,
        queue: Arc<Queue>,
        bus: &Bus,
    ) -> Result<Remote, BusError> {
        let mut arriving = self
            .client
            .subscribe(self.subject(subject))
            .await
            .map_err(|e| BusError::Unavailable(e.to_string()))?;
        let subject = subject.to_owned();
        let bus = Arc::downgrade(&bus.0);
        let task = tokio::spawn(async move {
            while let Some(message) = arriving.next().await {
                let Some(bus) = bus.upgrade().map(Bus) else {
                    return;
                };
                let reply = message.reply.map(|reply| reply.to_string());
                queue.receive(Message {
                    subject: subject.clone(),
                    bus: reply.is_some().then_some(bus),
                    reply,
                    payload: message.payload,
                });
            }
            queue.close();
        });
        let remote = Remote(task.abort_handle());
        if let Err(error) = self.ping().await {
            tracing::debug!(%error, "a subscription waits for the connection to NATS");
        }
        Ok(remote)
    }

    pub(crate) async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError> {
        self.require_connection()?;
        let bytes = payload.len();
        let request = async_nats::Request::new()
            .payload(payload)
            .timeout(Some(timeout));
        let answer = self.client.send_request(self.subject(subject), request);
        // The client's own limit does not cover the way into its queue.
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer.payload),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => BusError::NoResponders(subject.to_owned()),
                RequestErrorKind::TimedOut => BusError::Timeout(subject.to_owned()),
                RequestErrorKind::MaxPayloadExceeded => self.too_large(bytes),
                _ => BusError::Unavailable(error.to_string()),
            }),
            Err(_) => Err(BusError::Timeout(subject.to_owned())),
        }
    }

    pub(crate) async fn ping(&self) -> Result<(), BusError> {
        self.require_connection()?;
        self.round_trip().await
    }

    /// Everything sent before has reached the server: it answers in order, and to a request that nobody
    /// listens to it answers itself.
    async fn round_trip(&self) -> Result<(), BusError> {
        let request = async_nats::Request::new().timeout(Some(ROUND_TRIP));
        let nobody = format!("{}._nobody", self.prefix);
        let answer = self.client.send_request(nobody, request);
        match tokio::time::timeout(ROUND_TRIP, answer).await {
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            // Somebody does listen: as good a proof.
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(BusError::Unavailable(error.to_string())),
            Err(_) => Err(BusError::Unavailable("NATS does not answer".to_owned())),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn addresses_carry_credentials_and_files() {
        let config =
            Config::parse("nats://us%40er:p%2Fw@a:1,tls://b?ca=/c.pem&prefix=blue").unwrap();
        let servers: Vec<_> = config.servers.iter().map(Url::as_str).collect();
        assert_eq!(servers, ["nats://a:1", "tls://b"]);
        assert_eq!(config.user, Some(("us@er".to_owned(), "p/w".to_owned())));
        assert_eq!(config.ca, Some(PathBuf::from("/c.pem")));
        assert_eq!(config.prefix, "blue");
        let config = Config::parse("nats://s3cret@[::1]").unwrap();
        assert_eq!(config.token.as_deref(), Some("s3cret"));
        assert_eq!(config.prefix, "ambidex");
    }

    #[test]
    fn unusable_addresses_are_refused_without_showing_them() {
        for bad in [
            "",
            "secret",
            "http://u:secret@h",
            "nats://u:secret@h?color=blue",
            "nats://u:secret@h?cert=/x",
            "nats://u:secret@h?prefix=a.*",
            "nats://",
            "nats://a,,b",
        ] {
            let error = Config::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{bad}: {error}");
        }
    }
}
