//! Remote access: real agent, real server, a user on the websocket and on plain HTTP.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ambidex_harness::{Api, Device, Proxy, Server, http_client, scratch::flow, wait_for};
use ambidex_test_scenario::{LIMIT, image};
use ambidex_wire::session::{
    Message, PROTO_CONTROL, PROTO_FORWARD, PROTO_SHELL, control, forward, shell,
};
use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message as Frame, client::IntoClientRequest as _},
};

const MANAGEMENT: &str = "/api/management/v1/deviceconnect/devices";

/// A server, a network that can be cut, and a device with remote access.
struct Rig {
    server: Server,
    proxy: Proxy,
    api: Api,
    device: Device,
    id: String,
    folder: PathBuf,
}

impl Rig {
    async fn start(folder: &Path) -> Result<Rig> {
        let server = Server::start(folder).await?;
        let proxy = Proxy::start(server.address()).await?;
        let api = server.login().await?;
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?;
        let user = user.context("who runs the tests has no name")?.name;
        let url = format!("http://{}", proxy.address());
        let remote = format!("[remote]\nuser = {user:?}\n[remote.sessions]\nmax_per_user = 4");
        let mut device = Device::new(&folder.join("device"), "02:00:00:00:00:07", &url, &remote)?;
        device.start()?;
        let id = api.accept_next(LIMIT).await?;
        let rig = Rig {
            server,
            proxy,
            api,
            device,
            id,
            folder: folder.to_owned(),
        };
        rig.connected(true).await?;
        Ok(rig)
    }

    async fn connected(&self, wanted: bool) -> Result<()> {
        let wanted = if wanted { "connected" } else { "disconnected" };
        let path = format!("{MANAGEMENT}/{}", self.id);
        wait_for("the device's connection", LIMIT, async || {
            // unknown until its first connection
            let found = self.api.get(&path).await.ok();
            Ok(found.filter(|found| found["status"] == wanted))
        })
        .await
        .with_context(|| self.device.log())?;
        Ok(())
    }

    async fn user(&self) -> Result<User> {
        let path = format!("{MANAGEMENT}/{}/connect", self.id);
        let mut request = format!("ws://{}{path}", self.server.address()).into_client_request()?;
        let bearer = format!("Bearer {}", self.api.token());
        request
            .headers_mut()
            .insert("authorization", bearer.parse()?);
        let stream = TcpStream::connect(self.server.address()).await?;
        let (socket, _) = client_async(request, stream).await?;
        Ok(User(socket))
    }
}

/// A user's session with a device.
struct User(WebSocketStream<TcpStream>);

impl User {
    async fn send(&mut self, message: Message) -> Result<()> {
        Ok(self.0.send(Frame::Binary(message.encode().into())).await?)
    }

    /// The next message; `None` at the end of the session.
    async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            match timeout(LIMIT, self.0.next()).await.context("silence")? {
                Some(Ok(Frame::Binary(bytes))) => return Ok(Some(Message::decode(&bytes)?)),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                Some(Ok(_)) | None | Some(Err(_)) => return Ok(None),
            }
        }
    }

    async fn until(&mut self, proto: u16, typ: &str) -> Result<Message> {
        loop {
            let message = self.next().await?.context("the session has ended")?;
            if (message.proto, message.typ.as_str()) == (proto, typ) {
                return Ok(message);
            }
            if message.typ == control::ERROR {
                bail!("{}", String::from_utf8_lossy(&message.body));
            }
        }
    }

    /// Starts a shell and returns its process id.
    async fn shell(&mut self) -> Result<i32> {
        self.send(Message::new(PROTO_SHELL, shell::NEW, "")).await?;
        let answer = self.until(PROTO_SHELL, shell::NEW).await?;
        ensure!(answer.body == b"Shell started", "{answer:?}");
        let text = self.command("echo number'='$$'='", "=\r\n").await?;
        let number = text.rsplit("number=").next().unwrap_or_default();
        let number = number.split('=').next().unwrap_or_default();
        number.parse().context("the shell's process id")
    }

    /// Types a line and returns what the shell shows, up to `wanted`.
    async fn command(&mut self, line: &str, wanted: &str) -> Result<String> {
        let keys = Message::new(PROTO_SHELL, shell::SHELL, "");
        self.send(keys.body(format!("{line}\n"))).await?;
        let mut text = String::new();
        while !text.contains(wanted) {
            let output = self.until(PROTO_SHELL, shell::SHELL).await?;
            text += &String::from_utf8_lossy(&output.body);
        }
        Ok(text)
    }

    /// Everything until the end of the session; the reasons among it.
    async fn reasons(&mut self) -> Result<Vec<String>> {
        let mut reasons = Vec::new();
        while let Some(message) = self.next().await? {
            match (message.proto, message.typ.as_str()) {
                (PROTO_SHELL, shell::STOP) => {
                    reasons.push(String::from_utf8_lossy(&message.body).into_owned());
                }
                (PROTO_CONTROL, control::ERROR) => {
                    reasons.push(control::Failure::decode(&message.body)?.err);
                }
                _ => {}
            }
        }
        Ok(reasons)
    }
}

fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(pid: i32) -> Result<()> {
    wait_for("the end of the shell", LIMIT, async || {
        Ok((!is_alive(pid)).then_some(()))
    })
    .await
}

#[test]
fn a_shell_files_and_a_port_and_nothing_left_after_a_kill() {
    flow("remote-access", async |scratch| {
        let mut rig = Rig::start(scratch.path()).await?;
        let mut user = rig.user().await?;
        let pid = user.shell().await?;
        let resize = Message::new(PROTO_SHELL, shell::RESIZE, "");
        user.send(resize.prop(shell::WIDTH, 100).prop(shell::HEIGHT, 30))
            .await?;
        user.command("stty size", "30 100\r\n").await?;

        files(&rig).await?;
        let mut far = port(&mut user).await?;

        // kill -9: the user hears of it, and nothing is left
        ensure!(is_alive(pid));
        rig.device.kill().await?;
        gone(pid).await?;
        let reasons = user.reasons().await?;
        ensure!(
            reasons.iter().any(|reason| reason == "device disconnected"),
            "{reasons:?}"
        );
        let mut rest = Vec::new();
        // the connection it had forwarded is closed
        let _ = timeout(LIMIT, far.read_to_end(&mut rest))
            .await
            .context("the port stays open")?;

        rig.connected(false).await?;
        rig.device.start()?;
        rig.connected(true).await?;
        rig.user().await?.shell().await?;
        Ok(())
    });
}

/// A file up and down again, byte for byte.
async fn files(rig: &Rig) -> Result<()> {
    let content = image(7, 3 << 20);
    let path = rig.folder.join("copied.bin");
    let boundary = "a-boundary-of-this-test";
    let mut form = Vec::new();
    for (name, value) in [
        ("path", path.display().to_string()),
        ("mode", "0640".to_owned()),
    ] {
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        form.extend_from_slice(part.as_bytes());
    }
    let part = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.bin\"\r\n\r\n"
    );
    form.extend_from_slice(part.as_bytes());
    form.extend_from_slice(&content);
    form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let base = format!("{}{MANAGEMENT}/{}", rig.server.url(), rig.id);
    let answer = http_client(None)?
        .put(format!("{base}/upload"))
        .bearer_auth(rig.api.token())
        .header(
            "content-type",
            format!("multipart/form-data; boundary={boundary}"),
        )
        .body(form)
        .send()
        .await?;
    let status = answer.status();
    ensure!(
        status.as_u16() == 201,
        "{status}: {}\n{}",
        answer.text().await?,
        rig.device.log()
    );
    ensure!(std::fs::read(&path)? == content, "the file differs");
    let names: Vec<_> = std::fs::read_dir(&rig.folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    ensure!(
        !names.iter().any(|name| name.starts_with(".ambidex")),
        "{names:?}"
    );

    let answer = http_client(None)?
        .get(format!("{base}/download?path={}", path.display()))
        .bearer_auth(rig.api.token())
        .send()
        .await?;
    ensure!(answer.status().as_u16() == 200, "{}", answer.status());
    let header = |name: &str| answer.headers().get(name).cloned();
    ensure!(header("x-men-file-size").is_some_and(|size| size == "3145728"));
    ensure!(header("x-men-file-mode").is_some_and(|mode| mode == "640"));
    ensure!(answer.bytes().await? == content, "the download differs");

    let answer = http_client(None)?
        .get(format!("{base}/download?path=/no/such/file"))
        .bearer_auth(rig.api.token())
        .send()
        .await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    ensure!(
        status == 400 && text.contains("/no/such/file"),
        "{status}: {text}"
    );
    Ok(())
}

/// A port that is forwarded through the user's session; the far end of a connection stays open.
async fn port(user: &mut User) -> Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    user.send(control::Open::default().message("")).await?;
    let accept = user.until(PROTO_CONTROL, control::ACCEPT).await?;
    ensure!(
        control::Accept::decode(&accept.body)?
            .protocols
            .contains(&PROTO_FORWARD)
    );
    let to = forward::Connect {
        remote_host: "127.0.0.1".to_owned(),
        remote_port: listener.local_addr()?.port(),
        protocol: "tcp".to_owned(),
    };
    user.send(to.message("", "c1")).await?;
    user.until(PROTO_FORWARD, forward::NEW).await?;
    let (mut far, _) = listener.accept().await?;
    let data = forward::message(forward::FORWARD, "", "c1").body("knock");
    user.send(data).await?;
    user.until(PROTO_FORWARD, forward::ACK).await?;
    let mut knock = [0; 5];
    far.read_exact(&mut knock).await?;
    ensure!(&knock == b"knock");
    let answer = image(9, 50_000);
    far.write_all(&answer).await?;
    let mut received = Vec::new();
    while received.len() < answer.len() {
        let message = user.until(PROTO_FORWARD, forward::FORWARD).await?;
        received.extend_from_slice(&message.body);
        user.send(forward::message(forward::ACK, "", "c1")).await?;
    }
    ensure!(received == answer, "what came through the port differs");
    Ok(far)
}

#[test]
fn a_cut_network_ends_the_sessions_and_the_device_comes_back() {
    flow("remote-cut", async |scratch| {
        let rig = Rig::start(scratch.path()).await?;
        let mut user = rig.user().await?;
        let pid = user.shell().await?;
        rig.proxy.cut();
        gone(pid).await?;
        let reasons = user.reasons().await?;
        ensure!(
            reasons.iter().any(|reason| reason == "device disconnected"),
            "{reasons:?}"
        );
        rig.connected(true).await?;
        // an old connection may still have been shown
        let shell = wait_for(
            "a shell after the cut",
            Duration::from_secs(40),
            async || match rig.user().await {
                Ok(mut user) => Ok(user.shell().await.ok().map(|pid| (user, pid))),
                Err(_) => Ok(None),
            },
        );
        let (user, pid) = shell.await?;
        // and a user who just goes leaves no shell either
        drop(user);
        gone(pid).await
    });
}

#[test]
fn the_board_check_tells_what_remote_access_lacks() {
    flow("remote-check", async |scratch| {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?;
        let user = user.context("who runs the tests has no name")?.name;
        for (name, remote, wanted) in [
            ("off", String::new(), "ok   remote access is off"),
            (
                "good",
                format!("[remote]\nuser = {user:?}"),
                "ok   remote access is set up",
            ),
            (
                "stranger",
                "[remote]\nuser = \"no-such-user-here\"".to_owned(),
                "FAIL remote access: the user 'no-such-user-here' (remote.user) does not exist",
            ),
            (
                "no shell",
                format!("[remote]\nuser = {user:?}\nshell = \"/no/such/shell\""),
                "FAIL remote access: '/no/such/shell' (remote.shell) is no login shell",
            ),
        ] {
            let folder = scratch.join(name);
            let device = Device::new(&folder, "02:00:00:00:00:08", "http://127.0.0.1:1", &remote)?;
            let told = device.verb(&["board", "check"]).await?;
            ensure!(told.stdout.contains(wanted), "{name}: {told:?}");
            // not the slots of this machine, but remote access must count
            ensure!(told.code == Some(1), "{told:?}");
        }
        Ok(())
    });
}
