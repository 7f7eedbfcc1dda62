//! The other end of a connection, as a test plays it.

use std::path::PathBuf;
use std::time::Duration;

use ambidex_connect::{End, Remote, Settings, Wish};
use ambidex_wire::session::{Message, PROTO_CONTROL, control, shell};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a test waits for at most.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The user of all sessions that name none.
pub const USER: &str = "u1";

/// A device and the server it is connected to.
pub struct Peer {
    pub socket: WebSocketStream<DuplexStream>,
    pub wishes: mpsc::Receiver<Wish>,
    pub remote: Remote,
    pub dir: tempfile::TempDir,
    /// Longer on a clock that stands.
    pub limit: Duration,
    leave: Option<oneshot::Sender<String>>,
    serving: JoinHandle<End>,
}

/// The name of the user who runs the tests.
pub fn user() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).unwrap().unwrap().name
}

impl Peer {
    /// A device that offers everything, in the name of the user who runs the tests.
    pub async fn start() -> Peer {
        Peer::with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Peer {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(Some(user()), dir.path().join("state"));
        change(&mut settings);
        let (sender, wishes) = mpsc::channel(8);
        let remote = Remote::new(settings, sender);
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        let (leave, wanted) = oneshot::channel();
        let serving = {
            let remote = remote.clone();
            tokio::spawn(async move {
                let leave = async {
                    match wanted.await {
                        Ok(reason) => reason,
                        Err(_) => std::future::pending().await,
                    }
                };
                remote.serve(theirs, leave).await
            })
        };
        Peer {
            socket: WebSocketStream::from_raw_socket(ours, Role::Server, None).await,
            wishes,
            remote,
            dir,
            limit: LIMIT,
            leave: Some(leave),
            serving,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub async fn send(&mut self, message: Message) {
        self.send_frame(Frame::Binary(message.encode().into()))
            .await;
    }

    pub async fn send_frame(&mut self, frame: Frame) {
        timeout(LIMIT, self.socket.send(frame))
            .await
            .expect("the device takes no message")
            .unwrap();
    }

    /// The next frame that is no ping.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = timeout(self.limit, self.socket.next())
                .await
                .expect("the device says nothing");
            match frame {
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                Some(Ok(frame)) => return Some(frame),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next message, as its bytes.
    pub async fn bytes(&mut self) -> Vec<u8> {
        match self.frame().await {
            Some(Frame::Binary(bytes)) => bytes.to_vec(),
            other => panic!("no message but {other:?}"),
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        Message::decode(&self.bytes().await).unwrap()
    }

    /// The next message of this kind; others are passed over.
    pub async fn until(&mut self, proto: u16, typ: &str) -> Message {
        loop {
            let message = self.message().await;
            if message.proto == proto && message.typ == typ {
                return message;
            }
        }
    }

    /// Nothing but what is listed comes before the answer to a ping of this session.
    pub async fn quiet(&mut self, sid: &str) -> Vec<Message> {
        self.send(Message::new(PROTO_CONTROL, control::PING, sid))
            .await;
        let mut seen = Vec::new();
        loop {
            let message = self.message().await;
            if message.proto == PROTO_CONTROL && message.typ == control::PONG {
                return seen;
            }
            seen.push(message);
        }
    }

    /// Starts a shell and waits for it.
    pub async fn shell(&mut self, sid: &str) {
        self.send(new_shell(sid, USER)).await;
        let answer = self
            .until(ambidex_wire::session::PROTO_SHELL, shell::NEW)
            .await;
        assert_eq!(
            answer.props.int(shell::STATUS),
            Some(shell::STATUS_NORMAL),
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }

    /// Types into a shell.
    pub async fn keys(&mut self, sid: &str, text: &str) {
        let keys = Message::new(ambidex_wire::session::PROTO_SHELL, shell::SHELL, sid);
        self.send(keys.body(text)).await;
    }

    /// The shells' output, until it holds `wanted`.
    pub async fn output(&mut self, wanted: &str) -> String {
        let mut all = String::new();
        while !all.contains(wanted) {
            let message = self.message().await;
            match (message.proto, message.typ.as_str()) {
                (ambidex_wire::session::PROTO_SHELL, shell::SHELL) => {
                    all += &String::from_utf8_lossy(&message.body);
                }
                (ambidex_wire::session::PROTO_SHELL, shell::PING) => {
                    let pong = shell::message(shell::PONG, &message.sid, 3, b"");
                    self.send(pong).await;
                }
                _ => panic!("{message:?} instead of {wanted:?} after {all:?}"),
            }
        }
        all
    }

    /// Has the device leave.
    pub fn leave(&mut self, reason: &str) {
        self.leave.take().unwrap().send(reason.to_owned()).unwrap();
    }

    /// Waits for the end of the connection.
    pub async fn end(self) -> End {
        let Peer {
            socket,
            serving,
            limit,
            ..
        } = self;
        // our half closes only now
        let end = timeout(limit, serving).await.expect("it does not end");
        drop(socket);
        end.unwrap()
    }

    /// The network goes away.
    pub async fn cut(self) -> (End, tempfile::TempDir) {
        let Peer {
            socket,
            serving,
            dir,
            ..
        } = self;
        drop(socket);
        let end = timeout(LIMIT, serving).await.expect("it does not end");
        (end.unwrap(), dir)
    }
}

pub fn new_shell(sid: &str, user: &str) -> Message {
    Message::new(ambidex_wire::session::PROTO_SHELL, shell::NEW, sid)
        .prop(shell::WIDTH, 91)
        .prop(shell::HEIGHT, 17)
        .prop(shell::USER_ID, user)
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
