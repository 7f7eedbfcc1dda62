//! Remote access of the daemon as a process: the handshake, when it connects again, and what is left when it
//! ends. Rows CN-02, CN-28, CN-29 and CN-30 of the acceptance table; sessions are tested in `agent/connect`.

#![cfg(feature = "remote-terminal")]
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ambidex_wire::session::{Message, PROTO_CLIENT, PROTO_CONTROL, PROTO_SHELL, control, shell};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use support::{Answer, Device, Request, Server, Socket, TOKEN, answer, default_answer};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message as Frame,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

const LIMIT: Duration = Duration::from_secs(20);
const CONNECT: &str = "/api/devices/v1/deviceconnect/connect";

/// The device's websocket, as the server has it.
struct Link(WebSocketStream<Box<dyn support::Stream>>);

impl Link {
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            match timeout(LIMIT, self.0.next()).await.expect("silence") {
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                Some(Ok(frame)) => return Some(frame),
                _ => return None,
            }
        }
    }

    async fn message(&mut self) -> Message {
        match self.frame().await {
            Some(Frame::Binary(bytes)) => Message::decode(&bytes).unwrap(),
            other => panic!("no message but {other:?}"),
        }
    }

    async fn until(&mut self, proto: u16, typ: &str) -> Message {
        loop {
            let message = self.message().await;
            if (message.proto, message.typ.as_str()) == (proto, typ) {
                return message;
            }
        }
    }

    async fn send(&mut self, message: Message) {
        self.0
            .send(Frame::Binary(message.encode().into()))
            .await
            .unwrap();
    }

    /// Starts a shell and returns its process id.
    async fn shell(&mut self) -> i32 {
        self.send(Message::new(PROTO_SHELL, shell::NEW, "s1")).await;
        let answer = self.until(PROTO_SHELL, shell::NEW).await;
        assert_eq!(answer.body, b"Shell started");
        let keys = Message::new(PROTO_SHELL, shell::SHELL, "s1");
        self.send(keys.body("echo number'='$$'='\n")).await;
        let mut text = String::new();
        while !text.contains("=\r\n") {
            let output = self.until(PROTO_SHELL, shell::SHELL).await;
            text += std::str::from_utf8(&output.body).unwrap();
        }
        let number = text.rsplit("number=").next().unwrap();
        number.split('=').next().unwrap().parse().unwrap()
    }
}

/// A friendly server that takes websockets, after `other` had its say.
async fn server(
    other: impl Fn(&Request, &UnboundedSender<Socket>) -> Option<Answer> + Send + Sync + 'static,
) -> (Server, UnboundedReceiver<Socket>) {
    let (sender, sockets) = unbounded_channel();
    let server = Server::start(move |request| {
        other(request, &sender).unwrap_or_else(|| {
            if request.target == CONNECT {
                Answer::Upgrade(sender.clone())
            } else {
                default_answer(request)
            }
        })
    })
    .await;
    (server, sockets)
}

async fn connected(sockets: &mut UnboundedReceiver<Socket>) -> Link {
    let socket = timeout(LIMIT, sockets.recv()).await.expect("no connection");
    Link(WebSocketStream::from_raw_socket(socket.unwrap().0, Role::Server, None).await)
}

fn remote() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
    format!("[remote]\nuser = \"{user}\"")
}

struct Daemon(Child);

impl Daemon {
    fn start(device: &Device) -> Daemon {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(device.path("daemon.log"))
            .unwrap();
        let child = command(device)
            .args(["daemon", "-l", "debug"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Daemon(child.unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(device: &Device) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambidex-agent"));
    command
        .arg("--conf-dir")
        .arg(device.path("conf"))
        .arg("--data-dir")
        .arg(device.path("data"))
        .arg("--state-dir")
        .arg(device.path("state"))
        .env_remove("JOURNAL_STREAM")
        .env_remove("NOTIFY_SOCKET");
    command
}

fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(pid: i32) {
    let limit = Instant::now() + LIMIT;
    while is_alive(pid) {
        assert!(Instant::now() < limit, "the shell lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// CN-02, CN-07.
#[tokio::test]
async fn the_handshake_is_the_references_and_says_what_we_read() {
    let (server, mut sockets) = server(|_, _| None).await;
    let device = Device::new(&[&server.url], &remote());
    let _daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    let request = server.requests_to(CONNECT).remove(0);
    assert_eq!(request.method, "GET");
    let bearer = format!("Bearer {TOKEN}");
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("x-ambidex-message-bytes", "65536"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.header("origin"), None);
    link.send(control::Open::default().message("s1")).await;
    let accept = link.until(PROTO_CONTROL, control::ACCEPT).await;
    let accept = control::Accept::decode(&accept.body).unwrap();
    assert_eq!(accept.protocols, [1, 2, 3, 4]);
}

#[tokio::test]
async fn over_tls_as_everything_else() {
    let (sender, mut sockets) = unbounded_channel();
    let server = Server::tls_with("server", move |request| {
        if request.target == CONNECT {
            Answer::Upgrade(sender.clone())
        } else {
            default_answer(request)
        }
    })
    .await;
    let extra = format!(
        "server_certificate = {:?}\n{}",
        support::certificate("authority.pem"),
        remote()
    );
    let device = Device::new(&[&server.url.replace("127.0.0.1", "localhost")], &extra);
    let _daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    link.send(Message::new(PROTO_CONTROL, control::PING, "s1"))
        .await;
    link.until(PROTO_CONTROL, control::PONG).await;
}

/// Off: not a single try.
#[tokio::test]
async fn without_a_user_nothing_is_opened() {
    let (server, _sockets) = server(|_, _| None).await;
    let device = Device::new(&[&server.url], "");
    let _daemon = Daemon::start(&device);
    server.wait_for("/deployments/next", 1).await;
    let status = command(&device).arg("status").output().unwrap().stdout;
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("remote access   off"), "{status}");
    assert!(server.requests_to(CONNECT).is_empty());

    let device = Device::new(&[&server.url], &remote());
    let status = command(&device).arg("status").output().unwrap().stdout;
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("remote access   terminal as "), "{status}");
}

/// The reference's file, where ours says nothing.
#[tokio::test]
async fn a_configuration_of_the_reference_is_taken() {
    let (server, mut sockets) = server(|_, _| None).await;
    let device = Device::new(&[&server.url], "");
    let conf =
        r#"{"User": "nobody", "PortForward": {"Disable": true}, "Terminal": {"Disable": true}}"#;
    device.write("conf/mender-connect.conf", conf);
    let _daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    link.send(control::Open::default().message("s1")).await;
    let accept = link.until(PROTO_CONTROL, control::ACCEPT).await;
    let accept = control::Accept::decode(&accept.body).unwrap();
    assert_eq!(accept.protocols, [2, 4]);
}

/// CN-29.
#[tokio::test]
async fn it_connects_again_after_refusals_and_goodbyes() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let (server, mut sockets) = server(move |request, _| {
        let first = request.target == CONNECT && counted.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| answer(503, r#"{"error":"too many connections"}"#))
    })
    .await;
    let device = Device::new(&[&server.url], &remote());
    let _daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    let seen = server.requests_to(CONNECT);
    assert!(
        seen[1].at - seen[0].at < Duration::from_millis(6500),
        "{seen:?}"
    );
    let goodbye = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    link.0.close(Some(goodbye)).await.unwrap();
    let closed = Instant::now();
    drop(connected(&mut sockets).await);
    assert!(
        closed.elapsed() < Duration::from_millis(2500),
        "{:?}",
        closed.elapsed()
    );
}

/// CN-30, in our form: a refused token is replaced, and a new one replaces the connection.
#[tokio::test]
async fn it_follows_the_login() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    let (server, mut sockets) = server(move |request, _| {
        if request.target.ends_with("/auth_requests") {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            return Some(answer(200, format!("{TOKEN}.{number}")));
        }
        // until the token is the third one, somebody refuses it: first here, then at a poll
        let stale = match counted.load(Ordering::SeqCst) {
            1 => request.target == CONNECT,
            2 => {
                request.target.contains("/next")
                    && request.header("authorization").unwrap().ends_with(".2")
            }
            _ => false,
        };
        stale.then(|| answer(401, ""))
    })
    .await;
    let extra = format!("update_poll_interval_seconds = 1\n{}", remote());
    let device = Device::new(&[&server.url], "");
    let text = std::fs::read_to_string(device.path("conf/agent.toml")).unwrap();
    let text = text.replace("update_poll_interval_seconds = 600\n", "");
    device.write("conf/agent.toml", &format!("{text}{extra}\n"));
    let _daemon = Daemon::start(&device);
    // whichever of the two saw its token refused: in the end both use the third one
    let mut link = connected(&mut sockets).await;
    while !server
        .requests_to(CONNECT)
        .last()
        .unwrap()
        .header("authorization")
        .unwrap()
        .ends_with(".3")
    {
        match link.frame().await {
            Some(Frame::Close(Some(close))) => {
                assert_eq!(close.reason.as_str(), "the device has logged in anew");
            }
            other => panic!("{other:?}"),
        }
        link = connected(&mut sockets).await;
    }
    link.send(Message::new(PROTO_CONTROL, control::PING, "s1"))
        .await;
    link.until(PROTO_CONTROL, control::PONG).await;
}

/// CN-28: the daemon's own schedule is triggered, without any other process.
#[tokio::test]
async fn commands_trigger_the_daemon() {
    let (server, mut sockets) = server(|_, _| None).await;
    let device = Device::new(&[&server.url], &remote());
    device.script(
        "data/inventory/mender-inventory-count",
        "echo \"count=$(date +%s%N)\"",
    );
    let _daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    let polls = server.wait_for("/deployments/next", 1).await.len();
    for (typ, path) in [
        ("check-update", "/deployments/next"),
        ("send-inventory", "/attributes"),
    ] {
        let before = server.requests_to(path).len();
        link.send(Message::new(PROTO_CLIENT, typ, "s1")).await;
        let answer = link.until(PROTO_CLIENT, typ).await;
        assert_eq!(answer.props.int(shell::STATUS), Some(shell::STATUS_NORMAL));
        server.wait_for(path, before + 1).await;
    }
    assert_eq!(
        server.requests_to("/deployments/next").len(),
        polls + 1,
        "asked more than once"
    );
}

/// A daemon that is busy for long serves its terminals.
#[tokio::test]
async fn work_in_progress_holds_up_no_terminal() {
    let (server, mut sockets) = server(|request, _| {
        request
            .target
            .contains("/next")
            .then(|| support::stall(200, &[], "x".repeat(100), 1))
    })
    .await;
    let device = Device::new(&[&server.url], &remote());
    let _daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    server.wait_for("/deployments/next", 1).await;
    let pid = link.shell().await;
    assert!(is_alive(pid));
}

#[tokio::test]
async fn a_stop_says_why_and_ends_the_shells() {
    let (server, mut sockets) = server(|_, _| None).await;
    let device = Device::new(&[&server.url], &remote());
    let mut daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    let pid = link.shell().await;
    daemon.signal(Signal::SIGTERM);
    let stop = link.until(PROTO_SHELL, shell::STOP).await;
    assert_eq!(stop.body, b"the device's agent is stopping");
    match link.frame().await {
        Some(Frame::Close(Some(close))) => assert_eq!(close.code, CloseCode::Away),
        other => panic!("{other:?}"),
    }
    drop(link);
    let limit = Instant::now() + LIMIT;
    while daemon.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < limit, "the daemon does not stop");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!is_alive(pid));
}

/// `kill -9` leaves no shell, nor what it runs, nor half a file after the next start.
#[tokio::test]
async fn a_kill_leaves_nothing() {
    use ambidex_wire::session::{PROTO_FILE, file};
    let (server, mut sockets) = server(|_, _| None).await;
    let device = Device::new(&[&server.url], &remote());
    std::fs::create_dir(device.path("target")).unwrap();
    let daemon = Daemon::start(&device);
    let mut link = connected(&mut sockets).await;
    let pid = link.shell().await;
    // ignores the hang-up and everything else that can be ignored
    let keys = "exec sh -c 'trap \"\" HUP TERM INT; echo re\"\"ady; while :; do sleep 0.1; done'\n";
    link.send(Message::new(PROTO_SHELL, shell::SHELL, "s1").body(keys))
        .await;
    let mut text = String::new();
    while !text.contains("ready") {
        let output = link.until(PROTO_SHELL, shell::SHELL).await;
        text += std::str::from_utf8(&output.body).unwrap();
    }
    let put = file::PutFile {
        path: device.path("target/f").display().to_string(),
        ..file::PutFile::default()
    };
    link.send(put.message("s2")).await;
    link.until(PROTO_FILE, file::ACK).await;
    let names = || std::fs::read_dir(device.path("target")).unwrap().count();
    assert_eq!(names(), 1);
    drop(daemon);
    gone(pid).await;
    assert_eq!(names(), 1, "what a kill leaves");
    let _daemon = Daemon::start(&device);
    connected(&mut sockets).await;
    assert_eq!(names(), 0);
}
