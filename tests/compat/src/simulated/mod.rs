//! A device as the server sees it: a websocket, and what answers on it.

mod files;
mod forward;
mod shell;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambidex_harness::api::http_client;
use ambidex_harness::{Api, Server, wait_for};
use ambidex_wire::session::{
    MESSAGE_BYTES_HEADER, Message, PROTO_CONTROL, PROTO_FILE, PROTO_FORWARD, PROTO_SHELL, control,
    shell as shell_wire,
};
use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::pkcs8::{EncodePublicKey as _, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer as _, SigningKey};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use shell::Shell;

const LIMIT: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_millis(50);
const QUEUE_MESSAGES: usize = 32;
/// What ours announces.
const MESSAGE_BYTES: usize = 64 << 10;

/// Whose agent it behaves as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Small messages, one at a time.
    Reference,
    /// Larger ones in windows, to those who ask.
    Ours,
}

/// What the parts of a device share.
struct Link {
    server: String,
    token: String,
    manner: Manner,
    protocols: Vec<u16>,
    /// How many times the connection still breaks in the middle of a file.
    cuts: AtomicUsize,
    cut: Notify,
    /// Bytes that do not arrive as they were.
    spoil: AtomicUsize,
    /// Answers to our pings.
    pongs: AtomicUsize,
    ping: Notify,
    /// Shells that have begun.
    shells: AtomicUsize,
}

/// Where the parts send their messages.
type Out = mpsc::Sender<Message>;

/// A device that is connected, and connects again when it has to.
pub struct Simulated {
    pub id: String,
    link: Arc<Link>,
    task: JoinHandle<()>,
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Simulated {
    /// Enrols a device with this identity and connects it; it offers all protocols.
    pub async fn start(server: &Server, api: &Api, mac: &str, manner: Manner) -> Result<Self> {
        let all = vec![PROTO_SHELL, PROTO_FILE, PROTO_FORWARD];
        Self::start_with(server, api, mac, manner, all).await
    }

    /// The same with some protocols only.
    pub async fn start_with(
        server: &Server,
        api: &Api,
        mac: &str,
        manner: Manner,
        protocols: Vec<u16>,
    ) -> Result<Self> {
        let (id, token) = enrol(server, api, mac).await?;
        let link = Arc::new(Link {
            server: server.address().to_string(),
            token,
            manner,
            protocols,
            cuts: AtomicUsize::new(0),
            cut: Notify::new(),
            spoil: AtomicUsize::new(0),
            pongs: AtomicUsize::new(0),
            ping: Notify::new(),
            shells: AtomicUsize::new(0),
        });
        let connecting = Arc::clone(&link);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = connecting.connected().await {
                    eprintln!("the device: {error:#}");
                }
                tokio::time::sleep(RECONNECT).await;
            }
        });
        let device = Self { id, link, task };
        device.wait_status(api, "connected").await?;
        Ok(device)
    }

    /// Waits until the server shows the device so.
    pub async fn wait_status(&self, api: &Api, wanted: &str) -> Result<()> {
        let path = format!("/api/management/v1/deviceconnect/devices/{}", self.id);
        wait_for(wanted, LIMIT, async || {
            let status = api.get(&path).await.map(|state| state["status"].clone());
            Ok(status.is_ok_and(|status| status == wanted).then_some(()))
        })
        .await
    }

    /// From now on, the connection breaks so many times in the middle of a file.
    pub fn break_in_files(&self, times: usize) {
        self.link.cuts.store(times, Ordering::SeqCst);
    }

    /// Breaks the connection now.
    pub fn break_now(&self) {
        self.link.cut.notify_one();
    }

    /// Changes a byte in so many of the files that come.
    pub fn spoil_files(&self, times: usize) {
        self.link.spoil.store(times, Ordering::SeqCst);
    }

    /// Pings every session and shell; how often they have answered so far.
    pub fn ping(&self) -> usize {
        self.link.ping.notify_one();
        self.link.pongs.load(Ordering::SeqCst)
    }

    /// Shells that have begun so far.
    pub fn shells(&self) -> usize {
        self.link.shells.load(Ordering::SeqCst)
    }

    /// Disconnects for good.
    pub async fn leave(self, api: &Api) -> Result<()> {
        self.task.abort();
        self.wait_status(api, "disconnected").await
    }
}

/// What a session has on the device.
#[derive(Default)]
struct Session {
    shell: Option<Shell>,
    files: Option<mpsc::Sender<Message>>,
    forwards: HashMap<String, mpsc::Sender<Message>>,
    opened: bool,
}

impl Link {
    /// One connection, until it ends. Everything that runs on it ends with it.
    async fn connected(self: &Arc<Self>) -> Result<()> {
        let url = format!("ws://{}/api/devices/v1/deviceconnect/connect", self.server);
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {}", self.token).parse()?;
        request.headers_mut().insert("authorization", bearer);
        if self.manner == Manner::Ours {
            let bytes = MESSAGE_BYTES.to_string().parse()?;
            request.headers_mut().insert(MESSAGE_BYTES_HEADER, bytes);
        }
        let stream = TcpStream::connect(&self.server).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = client_async(request, stream).await?;
        let (mut sink, mut stream) = socket.split();
        let (out, mut queue) = mpsc::channel::<Message>(QUEUE_MESSAGES);
        let mut sessions = HashMap::new();
        let mut tasks = JoinSet::new();
        let write = async {
            while let Some(message) = queue.recv().await {
                sink.feed(Frame::Binary(message.encode().into())).await?;
                if queue.is_empty() {
                    sink.flush().await?;
                }
            }
            anyhow::Ok(())
        };
        let read = async {
            loop {
                tokio::select! {
                    frame = stream.next() => match frame {
                        Some(Ok(Frame::Binary(bytes))) => {
                            let limit = match self.manner {
                                Manner::Reference => 8192,
                                Manner::Ours => MESSAGE_BYTES,
                            };
                            if bytes.len() > limit {
                                bail!("a message of {} bytes", bytes.len());
                            }
                            let message = Message::decode(&bytes)?;
                            self.take(message, &mut sessions, &mut tasks, &out).await?;
                        }
                        Some(Ok(Frame::Close(_))) | None => return Ok(()),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(error.into()),
                    },
                    () = self.cut.notified() => return Ok(()),
                    () = self.ping.notified() => ping_all(&sessions, &out).await?,
                }
            }
        };
        tokio::select! {
            ended = read => ended,
            ended = write => ended,
        }
    }

    async fn take(
        self: &Arc<Self>,
        message: Message,
        sessions: &mut HashMap<String, Session>,
        tasks: &mut JoinSet<()>,
        out: &Out,
    ) -> Result<()> {
        let sid = message.sid.clone();
        let session = sessions.entry(sid.clone()).or_default();
        if message.proto != PROTO_CONTROL && !self.protocols.contains(&message.proto) {
            let failure = control::Failure {
                err: format!("no handler registered for protocol: {:#06x}", message.proto),
                msgproto: Some(message.proto),
                msgtype: Some(message.typ),
                ..control::Failure::default()
            };
            out.send(failure.message(&sid)).await?;
            return Ok(());
        }
        match (message.proto, message.typ.as_str()) {
            (PROTO_CONTROL, control::OPEN) => {
                session.opened = true;
                let accept = control::Accept {
                    version: 1,
                    protocols: self.protocols.clone(),
                };
                out.send(accept.message(&sid)).await?;
            }
            (PROTO_CONTROL, control::PING) => {
                let pong = Message::new(PROTO_CONTROL, control::PONG, &sid);
                out.send(pong).await?;
            }
            (PROTO_CONTROL, control::PONG) | (PROTO_SHELL, shell_wire::PONG) => {
                self.pongs.fetch_add(1, Ordering::SeqCst);
            }
            (PROTO_CONTROL, control::CLOSE) => {
                session.files = None;
                session.forwards.clear();
                session.opened = false;
            }
            (PROTO_SHELL, shell_wire::NEW) => {
                self.shells.fetch_add(1, Ordering::SeqCst);
                session.shell = Some(Shell::start(self, &message, out.clone())?);
            }
            (PROTO_SHELL, shell_wire::STOP) => {
                session.shell = None;
                let stop = shell_wire::message(shell_wire::STOP, &sid, 1, b"");
                out.send(stop).await?;
            }
            (PROTO_SHELL, _) => {
                if let Some(shell) = &mut session.shell {
                    shell.take(message)?;
                }
            }
            (PROTO_FILE, _) => {
                if session.files.as_ref().is_none_or(mpsc::Sender::is_closed) {
                    let (queue, messages) = mpsc::channel(QUEUE_MESSAGES);
                    session.files = Some(queue);
                    tasks.spawn(files::serve(Arc::clone(self), sid, messages, out.clone()));
                }
                if let Some(queue) = &session.files {
                    let _ = queue.send(message).await;
                }
            }
            (PROTO_FORWARD, _) => {
                forward::take(self, message, &mut session.forwards, tasks, out).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

async fn ping_all(sessions: &HashMap<String, Session>, out: &Out) -> Result<()> {
    for (sid, session) in sessions {
        if session.opened {
            out.send(Message::new(PROTO_CONTROL, control::PING, sid))
                .await?;
        }
        if session.shell.is_some() {
            let ping = shell_wire::message(shell_wire::PING, sid, 3, b"");
            out.send(ping.prop(shell_wire::TIMEOUT, 65)).await?;
        }
    }
    Ok(())
}

/// Announces a device and lets it ask for its token; id and token.
pub async fn enrol(server: &Server, api: &Api, mac: &str) -> Result<(String, String)> {
    let key = SigningKey::generate(&mut rand::rngs::OsRng);
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF)?;
    let identity = json!({ "mac": mac });
    let announced = json!({ "identity_data": identity, "pubkey": public });
    let http = http_client(None)?;
    let devices = format!("{}/api/management/v2/devauth/devices", server.url());
    let call = http.post(devices).bearer_auth(api.token()).json(&announced);
    let answer = call.send().await?;
    if answer.status() != 201 {
        bail!("the device could not be announced: {}", answer.status());
    }
    let body = json!({ "id_data": identity.to_string(), "pubkey": public }).to_string();
    let requests = format!(
        "{}/api/devices/v1/authentication/auth_requests",
        server.url()
    );
    let signature = STANDARD.encode(key.sign(body.as_bytes()).to_bytes());
    let answer = http
        .post(requests)
        .header("X-MEN-Signature", signature)
        .header("Content-Type", "application/json")
        .body(body)
        .send()
        .await?;
    if answer.status() != 200 {
        bail!("the device got no token: {}", answer.status());
    }
    let token = answer.text().await?;
    let accepted = api.devices("accepted").await?;
    let device = accepted
        .iter()
        .find(|device| device["identity_data"]["mac"] == mac)
        .context("the device is not accepted")?;
    let id = device["id"].as_str().context("the device has no id")?;
    Ok((id.to_owned(), token))
}
