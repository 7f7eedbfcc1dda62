//! A scripted update server on the loopback: answers what the test says, remembers what was asked.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]
#![allow(dead_code, reason = "every test file uses its part")]

pub mod daemon;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ambidex_agent::config::{self, Config, Overrides};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::UnboundedSender,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub at: Instant,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub enum Answer {
    Send {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Announces the whole body and closes after this many bytes of it.
    Cut {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        after: usize,
    },
    /// As `Cut`, but keeps the connection open and silent.
    Stall {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        after: usize,
    },
    /// Closes without an answer.
    Close,
    /// Becomes a websocket, which goes to the test.
    Upgrade(UnboundedSender<Socket>),
}

/// A connection that has become a websocket.
pub struct Socket(pub Box<dyn Stream>);

/// Both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer::Send {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

pub fn answer_with(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    Answer::Send {
        status,
        headers: owned(headers),
        body: body.into(),
    }
}

pub fn cut(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
    after: usize,
) -> Answer {
    Answer::Cut {
        status,
        headers: owned(headers),
        body: body.into(),
        after,
    }
}

pub fn stall(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
    after: usize,
) -> Answer {
    Answer::Stall {
        status,
        headers: owned(headers),
        body: body.into(),
        after,
    }
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

pub struct Server {
    pub url: String,
    log: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, script).await
    }

    /// A friendly server behind TLS, with the test certificate of this name.
    pub async fn tls(certificate: &str, client_certificate: bool) -> Self {
        Self::listen(
            Some(acceptor(certificate, client_certificate)),
            default_answer,
        )
        .await
    }

    /// The same with a script.
    pub async fn tls_with(
        certificate: &str,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(acceptor(certificate, false)), script).await
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let seen = Arc::clone(&log);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // head and body are two writes
                stream.set_nodelay(true).unwrap();
                let (script, seen, tls) = (Arc::clone(&script), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, script, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, script, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { url, log, task }
    }

    /// A server that lets every device in and has no deployment; `other` answers first where it wants.
    pub async fn friendly(
        other: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |request| other(request).unwrap_or_else(|| default_answer(request))).await
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub fn requests_to(&self, part: &str) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|r| r.target.contains(part))
            .collect()
    }

    /// Waits until so many requests to a path came.
    pub async fn wait_for(&self, part: &str, count: usize) -> Vec<Request> {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.requests_to(part);
            if found.len() >= count {
                return found;
            }
            assert!(
                Instant::now() < limit,
                "only {} of {count} requests to {part} came: {:#?}",
                found.len(),
                self.requests()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub const TOKEN: &str = "header.claims.signature";

pub fn default_answer(request: &Request) -> Answer {
    if request.target.ends_with("/auth_requests") {
        answer(200, TOKEN)
    } else if request.target.contains("/deployments/next") {
        answer(204, "")
    } else if request.target.ends_with("/attributes") {
        answer(200, "")
    } else if request.method == "PUT" {
        answer(204, "")
    } else {
        answer(404, r#"{"error":"no such path","request_id":"r"}"#)
    }
}

async fn serve(
    mut stream: impl Stream + 'static,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Request>>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        log.lock().unwrap().push(request.clone());
        let (status, headers, body, limit, stall) = match script(&request) {
            Answer::Close => return,
            Answer::Upgrade(sockets) => {
                let accept = accept_key(request.header("sec-websocket-key").unwrap());
                let head = format!(
                    "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                if stream.write_all(head.as_bytes()).await.is_ok() {
                    let _ = sockets.send(Socket(Box::new(stream)));
                }
                return;
            }
            Answer::Send {
                status,
                headers,
                body,
            } => (status, headers, body, None, false),
            Answer::Cut {
                status,
                headers,
                body,
                after,
            } => (status, headers, body, Some(after), false),
            Answer::Stall {
                status,
                headers,
                body,
                after,
            } => (status, headers, body, Some(after), true),
        };
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        // an empty one stands for none
        if !headers.iter().any(|(name, _)| name == "Content-Length") && status != 204 {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let sent = &body[..limit.unwrap_or(body.len()).min(body.len())];
        if stream.write_all(sent).await.is_err() {
            return;
        }
        if stall {
            let _ = stream.read(&mut [0; 1]).await;
        }
        if limit.is_some() {
            return;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (
        first.next().unwrap().to_owned(),
        first.next().unwrap().to_owned(),
    );
    let headers: BTreeMap<String, String> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |v| v.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend_from_slice(&piece[..count]),
        }
    }
    Some(Request {
        at: Instant::now(),
        method,
        target,
        headers,
        body,
    })
}

pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/certificates")
        .join(name)
}

/// The server's end of TLS with the test certificate of this name.
pub fn acceptor(name: &str, client_certificate: bool) -> TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let read = |file: String| CertificateDer::from_pem_file(certificate(&file)).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if client_certificate {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(read("authority.pem".to_owned())).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(certificate(&format!("{name}.key"))).unwrap();
    TlsAcceptor::from(Arc::new(
        builder
            .with_single_cert(vec![read(format!("{name}.pem"))], key)
            .unwrap(),
    ))
}

/// The folders of one device, removed at the end.
pub struct Device {
    pub dir: tempfile::TempDir,
}

impl Device {
    /// Writes `agent.toml` with short intervals; `extra` is appended at the top level.
    pub fn new(servers: &[&str], extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in [
            "conf",
            "data/identity",
            "data/inventory",
            "data/modules/v3",
            "state",
        ] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let device = Self { dir };
        let list: Vec<String> = servers.iter().map(|s| format!("{s:?}")).collect();
        device.write(
            "conf/agent.toml",
            &format!(
                "servers = [{}]\n\
                 update_poll_interval_seconds = 600\n\
                 inventory_poll_interval_seconds = 600\n\
                 retry_poll_first_seconds = 0.05\n\
                 retry_poll_interval_seconds = 0.2\n\
                 retry_download_interval_seconds = 0.02\n\
                 download_idle_timeout_seconds = 0.5\n\
                 request_timeout_seconds = 5\n\
                 {extra}\n",
                list.join(", ")
            ),
        );
        device.write("state/device_type", "device_type=test-board\n");
        device.script(
            "data/identity/mender-device-identity",
            "echo mac=00:11:22:33:44:55",
        );
        device
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn script(&self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        self.write(name, &format!("#!/bin/sh\n{body}\n"));
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn overrides(&self) -> Overrides {
        Overrides {
            conf_dir: Some(self.path("conf")),
            data_dir: Some(self.path("data")),
            state_dir: Some(self.path("state")),
            ..Overrides::default()
        }
    }

    pub fn config(&self) -> Arc<Config> {
        Arc::new(config::load(&self.overrides()).unwrap())
    }

    /// Whether any file below the device's folders holds this text.
    pub fn holds(&self, text: &str) -> bool {
        holds(self.dir.path(), text.as_bytes())
    }
}

fn holds(folder: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds(&path, text)
        } else if !path.is_file() {
            // the control socket
            false
        } else {
            std::fs::read(&path)
                .unwrap()
                .windows(text.len())
                .any(|w| w == text)
        }
    })
}

fn accept_key(key: &str) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}
