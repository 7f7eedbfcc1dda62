//! A session with a device: one websocket with messages in both directions.
//!
//! A task of its own moves the messages, so that pings of the server and the device are answered
//! whatever a verb is waiting for. The queues are bounded: who does not take messages holds the peer
//! back. [`Session`] owns the task; dropping it drops the connection, [`Session::close`] says goodbye.

use std::fmt;
use std::time::Duration;

use ambidex_wire::session::{
    DEVICE_MESSAGE_BYTES_MAX, MESSAGE_BYTES_HEADER, MESSAGE_BYTES_MAX, Message, PROTO_CONTROL,
    PROTO_SHELL, VERSION, control, shell,
};
use anyhow::anyhow;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use reqwest::header::HeaderMap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::exit::{Code, Failure};
use crate::fleet::api::{Api, NoWebsocket};

/// How often to ask the server for a sign of life. Ours pings every 30 s by itself, others never.
const PING: Duration = Duration::from_secs(25);
/// Without any sign of life for this long the connection is lost.
const SILENCE: Duration = Duration::from_secs(70);
/// How long to wait for the other half of a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a device may take to answer a question.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Messages that wait in either direction.
const QUEUE_MESSAGES: usize = 64;
/// Bytes that the server and the encoding add around the content of a message.
const ENVELOPE_BYTES: usize = 512;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The device, or the server on its behalf, said so.
    Device(String),
    /// The server closed the connection: code and reason.
    Closed(u16, String),
    /// The connection broke.
    Lost(String),
}

impl Ended {
    /// Whether the same thing may work a little later.
    pub fn transient(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Closed(code, _) => matches!(code, 1001 | 1005 | 1006 | 1011..=1014),
            Self::Device(text) => ["disconnected", "interrupted", "timeout"]
                .iter()
                .any(|word| text.contains(word)),
        }
    }

    fn code(&self) -> Code {
        match self {
            // The server's words for a login that was revoked, and for roles that were changed.
            Self::Closed(1008, reason) if reason.contains("login") || reason.contains("denied") => {
                Code::Refused
            }
            _ => Code::Failure,
        }
    }

    /// As the end of a verb.
    pub fn failure(self, doing: &str) -> Failure {
        Failure {
            code: self.code(),
            error: anyhow!("{doing}: {self}"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(text) if text == "device disconnected" => {
                f.write_str("the device has disconnected")
            }
            Self::Device(text) => write!(f, "the device ended the session: {}", plain(text)),
            Self::Closed(_, reason) if !reason.is_empty() => {
                write!(f, "the server ended the session: {}", plain(reason))
            }
            Self::Closed(code, _) => write!(f, "the server ended the session (code {code})"),
            Self::Lost(why) => write!(f, "the connection to the server was lost: {why}"),
        }
    }
}

/// Text of a peer, so that it cannot steer the terminal.
pub fn plain(text: &str) -> String {
    crate::fleet::table::plain(text.trim())
}

enum Outgoing {
    Message(Message),
    Close,
}

/// Sends messages of a session.
#[derive(Clone)]
pub struct Sender(mpsc::Sender<Outgoing>);

impl Sender {
    /// Waits for room. `false` when the session has ended; [`Session::next`] tells why.
    pub async fn send(&self, message: Message) -> bool {
        self.0.send(Outgoing::Message(message)).await.is_ok()
    }

    /// Sends a message if there is room; for the end of something.
    pub fn send_now(&self, message: Message) {
        drop(self.0.try_send(Outgoing::Message(message)));
    }

    /// Waits for room for one message; none when the session has ended. Dropping the future loses
    /// nothing.
    pub async fn room(&self) -> Option<Room<'_>> {
        self.0.reserve().await.ok().map(Room)
    }
}

/// Room for one message.
pub struct Room<'a>(mpsc::Permit<'a, Outgoing>);

impl Room<'_> {
    pub fn send(self, message: Message) {
        self.0.send(Outgoing::Message(message));
    }
}

/// An open session.
pub struct Session {
    sender: Sender,
    incoming: mpsc::Receiver<Result<Message, Ended>>,
    task: JoinHandle<()>,
    /// Largest message that the device reads.
    message_bytes_max: usize,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// Opens a websocket below `/api/management/`.
    pub async fn connect(api: &Api, path: &[&str], doing: &str) -> Result<Self, NoWebsocket> {
        let websocket = api.websocket(path, doing).await?;
        let message_bytes_max = announced(&websocket.headers);
        let (sender, queue) = mpsc::channel(QUEUE_MESSAGES);
        let (arrivals, incoming) = mpsc::channel(QUEUE_MESSAGES);
        let task = tokio::spawn(serve(websocket.socket, queue, arrivals));
        Ok(Self {
            sender: Sender(sender),
            incoming,
            task,
            message_bytes_max,
        })
    }

    /// Opens a session with a device.
    pub async fn with_device(api: &Api, device: &str, doing: &str) -> Result<Self, NoWebsocket> {
        let path = ["v1", "deviceconnect", "devices", device, "connect"];
        Self::connect(api, &path, doing).await
    }

    /// Asks the device which protocols it offers; an error unless `wanted` is among them.
    pub async fn demand(&mut self, wanted: u16, what: &str) -> Result<(), Problem> {
        self.send(control::Open::default().message("")).await?;
        loop {
            let message = self.answer().await?;
            match (message.proto, message.typ.as_str()) {
                (PROTO_CONTROL, control::ACCEPT) => {
                    let offered = control::Accept::decode(&message.body).ok();
                    let good = offered.is_some_and(|accept| {
                        accept.version == VERSION && accept.protocols.contains(&wanted)
                    });
                    return if good { Ok(()) } else { Err(not_offered(what)) };
                }
                // Devices that know nothing but shells send the question back, or an error.
                (PROTO_CONTROL, control::OPEN | control::ERROR) => return Err(not_offered(what)),
                _ => {}
            }
        }
    }

    /// Sends a message, waiting for room.
    pub async fn send(&mut self, message: Message) -> Result<(), Ended> {
        if self.sender.send(message).await {
            return Ok(());
        }
        // Why it ended is what comes last.
        loop {
            self.next().await?;
        }
    }

    /// Another way to send, for tasks.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The next message. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Message, Ended> {
        match self.incoming.recv().await {
            Some(arrived) => arrived,
            None => Err(Ended::Lost("it is closed".to_owned())),
        }
    }

    /// The next message, if it is here already.
    pub fn next_now(&mut self) -> Option<Result<Message, Ended>> {
        self.incoming.try_recv().ok()
    }

    /// The next message, which the device owes us.
    pub async fn answer(&mut self) -> Result<Message, Ended> {
        self.answer_within(ANSWER_LIMIT).await
    }

    /// The same for a question that takes the device longer.
    pub async fn answer_within(&mut self, limit: Duration) -> Result<Message, Ended> {
        match timeout(limit, self.next()).await {
            Ok(arrived) => arrived,
            Err(_) => Err(Ended::Device(format!(
                "timeout: it has not answered for {} s",
                limit.as_secs()
            ))),
        }
    }

    /// How much content a message may carry; `smallest` is what every device takes.
    pub fn content_bytes(&self, smallest: usize, largest: usize) -> usize {
        if self.message_bytes_max <= DEVICE_MESSAGE_BYTES_MAX {
            return smallest;
        }
        let room = self.message_bytes_max - ENVELOPE_BYTES;
        // A round number of blocks.
        let room = room - room % smallest.max(1);
        room.clamp(smallest, largest.max(smallest))
    }

    /// Says goodbye, after everything that was sent before.
    pub async fn close(mut self) {
        // Nobody listens any more; the task passes over what still comes.
        self.incoming.close();
        while self.incoming.try_recv().is_ok() {}
        if self.sender.0.send(Outgoing::Close).await.is_ok() {
            // The task ends itself after that.
            drop(timeout(GOODBYE * 2, &mut self.task).await);
        }
    }
}

/// Largest message that the device reads, as the server tells it; others' devices read 8 KiB.
fn announced(headers: &HeaderMap) -> usize {
    headers
        .get(MESSAGE_BYTES_HEADER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(DEVICE_MESSAGE_BYTES_MAX)
        .clamp(DEVICE_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX)
}

/// What can go wrong in a session that is open.
#[derive(Debug)]
pub enum Problem {
    /// It ended.
    Ended(Ended),
    /// It goes on, but the thing does not work.
    Failed(Failure),
}

impl Problem {
    pub fn text(message: impl Into<String>) -> Self {
        Self::Failed(Failure::from(anyhow::Error::msg(message.into())))
    }

    pub fn failure(self, doing: &str) -> Failure {
        match self {
            Self::Ended(ended) => ended.failure(doing),
            Self::Failed(Failure { code, error }) => Failure {
                code,
                error: error.context(doing.to_owned()),
            },
        }
    }
}

impl From<Ended> for Problem {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

fn not_offered(what: &str) -> Problem {
    Problem::text(format!(
        "the device does not offer {what}; it may be switched off in its configuration"
    ))
}

/// Moves messages until the connection ends, then tells why.
async fn serve(
    socket: WebSocketStream<Upgraded>,
    queue: mpsc::Receiver<Outgoing>,
    arrivals: mpsc::Sender<Result<Message, Ended>>,
) {
    let (sink, stream) = socket.split();
    let (pongs, urgent) = mpsc::unbounded_channel();
    let ended = tokio::select! {
        ended = read(stream, &arrivals, pongs) => ended,
        ended = write(sink, queue, urgent) => ended,
    };
    // Nobody may be interested.
    drop(arrivals.send(Err(ended)).await);
}

async fn read<S>(
    mut stream: S,
    arrivals: &mpsc::Sender<Result<Message, Ended>>,
    pongs: mpsc::UnboundedSender<Message>,
) -> Ended
where
    S: futures_util::Stream<Item = Result<Frame, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        let frame = match timeout(SILENCE, stream.next()).await {
            Err(_) => {
                return Ended::Lost(format!("no sign of life for {} s", SILENCE.as_secs()));
            }
            Ok(None) => return Ended::Closed(1006, String::new()),
            Ok(Some(Err(error))) => return Ended::Lost(error.to_string()),
            Ok(Some(Ok(frame))) => frame,
        };
        let bytes = match frame {
            Frame::Binary(bytes) => bytes,
            Frame::Close(None) => return Ended::Closed(1005, String::new()),
            Frame::Close(Some(frame)) => {
                return Ended::Closed(frame.code.into(), frame.reason.to_string());
            }
            _ => continue,
        };
        let message = match Message::decode(&bytes) {
            Ok(message) => message,
            Err(error) => return Ended::Device(error.to_string()),
        };
        match (message.proto, message.typ.as_str()) {
            (PROTO_CONTROL, control::PING) => {
                drop(pongs.send(Message::new(PROTO_CONTROL, control::PONG, "")));
            }
            (PROTO_SHELL, shell::PING) => {
                drop(pongs.send(Message::new(PROTO_SHELL, shell::PONG, "")));
            }
            (PROTO_CONTROL, control::ERROR) => {
                let failure = control::Failure::decode(&message.body).unwrap_or_default();
                if failure.close {
                    return Ended::Device(failure.err);
                }
                drop(arrivals.send(Ok(message)).await);
            }
            // Nobody listens any more during a goodbye.
            _ => drop(arrivals.send(Ok(message)).await),
        }
    }
}

async fn write<S>(
    mut sink: S,
    mut queue: mpsc::Receiver<Outgoing>,
    mut urgent: mpsc::UnboundedReceiver<Message>,
) -> Ended
where
    S: futures_util::Sink<Frame, Error = tokio_tungstenite::tungstenite::Error> + Unpin,
{
    let lost = async |error: tokio_tungstenite::tungstenite::Error| {
        // A server that closed the connection has said why: the reading half finds it.
        sleep(GOODBYE).await;
        Ended::Lost(error.to_string())
    };
    let mut ping = interval_at(Instant::now() + PING, PING);
    loop {
        let frame = tokio::select! {
            biased;
            Some(message) = urgent.recv() => Frame::Binary(message.encode().into()),
            _ = ping.tick() => Frame::Ping(Bytes::from_static(b"60")),
            next = queue.recv() => match next {
                Some(Outgoing::Message(message)) => Frame::Binary(message.encode().into()),
                Some(Outgoing::Close) | None => break,
            },
        };
        if let Err(error) = sink.feed(frame).await {
            return lost(error).await;
        }
        // One flush for all that has come together.
        if queue.is_empty()
            && let Err(error) = sink.flush().await
        {
            return lost(error).await;
        }
    }
    let goodbye = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    if let Err(error) = sink.send(Frame::Close(Some(goodbye))).await {
        return lost(error).await;
    }
    // The reading half hears the answer first.
    sleep(GOODBYE).await;
    Ended::Closed(1000, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_may_pass() {
        for (ended, transient, code) in [
            (Ended::Lost("reset".into()), true, Code::Failure),
            (
                Ended::Closed(1001, "the server is stopping".into()),
                true,
                Code::Failure,
            ),
            (
                Ended::Closed(1008, "the login has ended".into()),
                false,
                Code::Refused,
            ),
            (
                Ended::Closed(1008, "Access denied (RBAC).".into()),
                false,
                Code::Refused,
            ),
            (
                Ended::Closed(1009, "too large".into()),
                false,
                Code::Failure,
            ),
            (
                Ended::Device("device disconnected".into()),
                true,
                Code::Failure,
            ),
            (Ended::Device("session timeout".into()), true, Code::Failure),
            (
                Ended::Device("require version 1".into()),
                false,
                Code::Failure,
            ),
        ] {
            assert_eq!(ended.transient(), transient, "{ended:?}");
            assert_eq!(ended.code(), code, "{ended:?}");
        }
    }

    #[test]
    fn announced_sizes_are_believed_within_limits() {
        let bytes = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(
                    MESSAGE_BYTES_HEADER,
                    reqwest::header::HeaderValue::from_static(value),
                );
            }
            announced(&headers)
        };
        assert_eq!(bytes(None), 8192);
        assert_eq!(bytes(Some("100")), 8192);
        assert_eq!(bytes(Some("262144")), 262_144);
        assert_eq!(bytes(Some("99999999")), MESSAGE_BYTES_MAX);
        assert_eq!(bytes(Some("much")), 8192);
    }
}
