//! Debian's `mender-connect` 2.1 and `mender-cli`, unmodified: terminal, file transfer and port forward
//! through our server. The daemon gets its token over a private message bus from a stand-in for the
//! authentication service that the update client offers on a real device.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ambidex_harness::{
    Api, Scratch, Server,
    api::http_client,
    binaries::{self, find_tool},
    scratch::flow,
    server::{EMAIL, PASSWORD},
    skip, wait_for,
};
use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{
    Signer, SigningKey,
    pkcs8::{EncodePublicKey, spki::der::pem::LineEnding},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(60);
const CONNECT: &str = "/api/management/v1/deviceconnect/devices";

/// Answers as the authentication service of the update client does.
const AUTHENTICATION_SERVICE: &str = r#"
import os, dbus, dbus.service, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SystemBus()
token, url = os.environ["DEVICE_TOKEN"], os.environ["SERVER_URL"]
class Authentication(dbus.service.Object):
    @dbus.service.method("io.mender.Authentication1", out_signature="ss")
    def GetJwtToken(self):
        return (token, url)
    @dbus.service.method("io.mender.Authentication1", out_signature="b")
    def FetchJwtToken(self):
        self.JwtTokenStateChange(token, url)
        return True
    @dbus.service.signal("io.mender.Authentication1", signature="ss")
    def JwtTokenStateChange(self, token, url):
        pass
service = Authentication(bus, "/io/mender/AuthenticationManager")
name = dbus.service.BusName("io.mender.AuthenticationManager", bus)
print("ready", flush=True)
GLib.MainLoop().run()
"#;

fn can_run() -> bool {
    let tools = [
        "mender-connect",
        "mender-cli",
        "dbus-daemon",
        "/usr/bin/python3",
        "script",
    ];
    let missing: Vec<&str> = tools
        .into_iter()
        .filter(|tool| find_tool(tool).is_none())
        .collect();
    let modules = std::process::Command::new("/usr/bin/python3")
        .args(["-c", "import dbus, gi"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !missing.is_empty() || !modules {
        skip(&format!(
            "not installed: {missing:?}{} (Debian packages mender-connect, mender-cli, dbus-daemon, python3-dbus, python3-gi, bsdutils)",
            if modules {
                ""
            } else {
                ", the D-Bus modules of Python"
            }
        ));
        return false;
    }
    if !nix::unistd::geteuid().is_root() {
        skip("mender-connect starts shells as another user, which only root may");
        return false;
    }
    true
}

/// A child that ends with the test, its output in a log.
fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let file = fs::File::create(log)?;
    command
        .stderr(file.try_clone()?)
        .stdout(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {command:?}"))
}

/// A device of the reference: message bus, authentication service and daemon.
struct Device {
    id: String,
    folder: PathBuf,
    _bus: Child,
    _service: Child,
    daemon: Child,
}

impl Device {
    async fn start(scratch: &Scratch, server: &Server, api: &Api, config: &str) -> Result<Device> {
        let folder = scratch.join("device");
        fs::create_dir_all(&folder)?;
        // The shells of the device run as another user.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
        let (id, token) = enrol(server, api).await?;
        let socket = folder.join("bus");
        fs::write(
            folder.join("bus.conf"),
            format!(
                "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
                 <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
                 <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
                socket.display()
            ),
        )?;
        let bus = spawn(
            Command::new("dbus-daemon").arg("--nofork").arg(format!(
                "--config-file={}",
                folder.join("bus.conf").display()
            )),
            &folder.join("bus.log"),
        )?;
        wait_for("the message bus", LIMIT, async || {
            Ok(socket.exists().then_some(()))
        })
        .await?;
        let address = format!("unix:path={}", socket.display());
        let service_log = folder.join("service.log");
        let service = spawn(
            Command::new("/usr/bin/python3")
                .args(["-c", AUTHENTICATION_SERVICE])
                .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
                .env("DEVICE_TOKEN", &token)
                .env("SERVER_URL", server.url()),
            &service_log,
        )?;
        wait_for("the authentication service", LIMIT, async || {
            Ok(fs::read_to_string(&service_log)?
                .contains("ready")
                .then_some(()))
        })
        .await?;
        fs::write(folder.join("connect.conf"), config)?;
        let daemon = Command::new("mender-connect")
            .arg("--config")
            .arg(folder.join("connect.conf"))
            .arg("--fallback-config")
            .arg(folder.join("none.conf"))
            .args(["--debug", "daemon"])
            // The shell's user must be able to stand there.
            .current_dir("/")
            .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("connect.log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("starting mender-connect")?;
        let mut device = Device {
            id,
            folder,
            _bus: bus,
            _service: service,
            daemon,
        };
        device.wait_status(api, "connected").await?;
        Ok(device)
    }

    async fn wait_status(&mut self, api: &Api, wanted: &str) -> Result<()> {
        let path = format!("{CONNECT}/{}", self.id);
        let outcome = wait_for(wanted, LIMIT, async || {
            let status = api.get(&path).await.map(|state| state["status"].clone());
            Ok(status.is_ok_and(|status| status == wanted).then_some(()))
        })
        .await;
        outcome.with_context(|| {
            let log = fs::read_to_string(self.folder.join("connect.log")).unwrap_or_default();
            format!("the daemon's log:\n{log}")
        })
    }
}

fn configuration() -> String {
    json!({
        "User": "daemon",
        "ShellCommand": "/bin/sh",
        "ShellArguments": [],
        "Terminal": { "Width": 80, "Height": 24 },
        "Sessions": { "MaxPerUser": 4 },
    })
    .to_string()
}

/// Announces a device and lets it ask for its token.
async fn enrol(server: &Server, api: &Api) -> Result<(String, String)> {
    let key = SigningKey::generate(&mut rand::rngs::OsRng);
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF)?;
    let identity = json!({ "mac": "02:00:00:00:0c:01" });
    let announced = json!({ "identity_data": identity, "pubkey": public });
    let http = http_client(None)?;
    let answer = http
        .post(format!(
            "{}/api/management/v2/devauth/devices",
            server.url()
        ))
        .bearer_auth(api.token())
        .json(&announced)
        .send()
        .await?;
    if answer.status() != 201 {
        bail!("the device could not be announced: {}", answer.status());
    }
    let body = json!({ "id_data": identity.to_string(), "pubkey": public }).to_string();
    let answer = http
        .post(format!(
            "{}/api/devices/v1/authentication/auth_requests",
            server.url()
        ))
        .header(
            "X-MEN-Signature",
            STANDARD.encode(key.sign(body.as_bytes()).to_bytes()),
        )
        .header("Content-Type", "application/json")
        .body(body)
        .send()
        .await?;
    if answer.status() != 200 {
        bail!("the device got no token: {}", answer.status());
    }
    let token = answer.text().await?;
    let devices = api.devices("accepted").await?;
    let id = devices[0]["id"].as_str().context("the device has no id")?;
    Ok((id.to_owned(), token))
}

/// `mender-cli` with a home of its own, logged in.
struct Cli {
    home: PathBuf,
    url: String,
}

impl Cli {
    async fn login(scratch: &Scratch, server: &Server) -> Result<Cli> {
        let cli = Cli {
            home: scratch.join("home"),
            url: server.url(),
        };
        fs::create_dir_all(&cli.home)?;
        cli.run(&["login", "--username", EMAIL, "--password", PASSWORD])
            .await?;
        Ok(cli)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", &self.home).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command("mender-cli")
            .args(arguments)
            .args(["--server", &self.url])
            .stdin(Stdio::null())
            .output();
        let output = timeout(LIMIT, output).await.context("mender-cli hangs")??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!(
                "mender-cli {arguments:?}: {}{}",
                text(&output.stdout),
                text(&output.stderr)
            );
        }
        Ok(text(&output.stdout))
    }
}

const PROMPT_LIMIT: Duration = Duration::from_secs(15);

/// A terminal session of `mender-cli` on a terminal of its own.
struct Terminal {
    child: Child,
    shown: String,
}

impl Terminal {
    /// Opens a session and waits for the prompt of its shell. Now and then a shell that this daemon has
    /// started never says a word, whoever asked for it: then another one.
    async fn open(cli: &Cli, device: &str) -> Result<Terminal> {
        for _ in 0..3 {
            let mut terminal = Terminal::start(cli, device)?;
            if let Ok(seen) = timeout(PROMPT_LIMIT, terminal.wait_to_see("$ ")).await {
                return seen.map(|()| terminal);
            }
            eprintln!("the daemon's shell is silent; trying another");
            terminal.end().await?;
        }
        bail!("three shells in a row were silent")
    }

    fn start(cli: &Cli, device: &str) -> Result<Terminal> {
        let line = format!("mender-cli terminal {device} --server {}", cli.url);
        let child = cli
            .command("script")
            .args([
                "--quiet",
                "--flush",
                "--return",
                "--command",
                &line,
                "/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting script")?;
        Ok(Terminal {
            child,
            shown: String::new(),
        })
    }

    async fn type_in(&mut self, keys: &[u8]) -> Result<()> {
        let input = self.child.stdin.as_mut().context("the terminal's input")?;
        input.write_all(keys).await?;
        Ok(input.flush().await?)
    }

    async fn wait_to_see(&mut self, wanted: &str) -> Result<()> {
        let output = self
            .child
            .stdout
            .as_mut()
            .context("the terminal's output")?;
        let mut buffer = [0; 4096];
        let reading = async {
            while !self.shown.contains(wanted) {
                let count = output.read(&mut buffer).await?;
                if count == 0 {
                    bail!("the terminal ended");
                }
                self.shown
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            Ok(())
        };
        let outcome = timeout(LIMIT, reading).await;
        outcome
            .unwrap_or_else(|_| bail!("the terminal hangs"))
            .with_context(|| format!("waiting to see {wanted:?}; shown was {:?}", self.shown))
    }

    async fn end(mut self) -> Result<()> {
        // Ctrl-]
        self.type_in(b"\x1d").await?;
        timeout(LIMIT, self.child.wait())
            .await
            .context("the terminal does not end")??;
        Ok(())
    }
}

#[test]
fn the_terminal_works_and_is_recorded() {
    if !can_run() {
        return;
    }
    flow("mender-connect-terminal", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let device = Device::start(&scratch, &server, &api, &configuration()).await?;
        let cli = Cli::login(&scratch, &server).await?;

        let mut terminal = Terminal::open(&cli, &device.id).await?;
        terminal
            .type_in(b"echo 'I am' $(id -un), $((40 + 2))\r")
            .await?;
        terminal.wait_to_see("I am daemon, 42").await?;
        // A pasted text longer than what the device reads in one message.
        let paste = "# ".to_owned() + &"x".repeat(60) + "\r";
        terminal.type_in(paste.repeat(400).as_bytes()).await?;
        terminal.type_in(b"echo after $((1 + 1)) pastes\r").await?;
        terminal.wait_to_see("after 2 pastes").await?;
        terminal.end().await?;

        let path = format!(
            "/api/management/v1/deviceconnect/sessions?device_id={}",
            device.id
        );
        let session = wait_for("the end of the recording", LIMIT, async || {
            let list = api.get(&path).await?;
            let ended = list[0]["ended_ts"].is_string();
            Ok(ended.then(|| list[0]["id"].as_str().unwrap_or_default().to_owned()))
        })
        .await?;
        let cast = http_client(None)?
            .get(format!(
                "{}/api/management/v1/deviceconnect/sessions/{session}/export",
                server.url()
            ))
            .bearer_auth(api.token())
            .send()
            .await?
            .text()
            .await?;
        assert!(
            cast.starts_with("{") && cast.contains("daemon, 42"),
            "{cast}"
        );

        // A second terminal: the first one's place is free again.
        let mut terminal = Terminal::open(&cli, &device.id).await?;
        terminal.type_in(b"echo again $((2 + 2))\r").await?;
        terminal.wait_to_see("again 4").await?;
        terminal.end().await?;

        let events = wait_for("the audit log", LIMIT, async || {
            let events = api
                .get("/api/management/v1/auditlogs/logs?object_type=device")
                .await?;
            let closed = |event: &&serde_json::Value| event["action"] == "close_terminal";
            let enough = events
                .as_array()
                .is_some_and(|events| events.iter().filter(closed).count() >= 2);
            Ok(enough.then_some(events))
        })
        .await?;
        let opened = |event: &&serde_json::Value| {
            event["action"] == "open_terminal" && event["meta"]["session_id"][0] == session
        };
        assert!(
            events
                .as_array()
                .is_some_and(|events| events.iter().any(|e| opened(&e))),
            "{events}"
        );
        Ok(())
    });
}

#[test]
fn files_are_copied_both_ways() {
    if !can_run() {
        return;
    }
    flow("mender-connect-files", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let device = Device::start(&scratch, &server, &api, &configuration()).await?;
        let cli = Cli::login(&scratch, &server).await?;

        for size in [0_u32, 4096, 3_000_001] {
            let content: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
            let local = scratch.join("local.bin");
            fs::write(&local, &content)?;
            fs::set_permissions(&local, fs::Permissions::from_mode(0o741))?;
            let there = scratch.join("there.bin");
            let remote = format!("{}:{}", device.id, there.display());
            cli.run(&["cp", &local.to_string_lossy(), &remote]).await?;
            assert!(fs::read(&there)? == content, "{size} bytes up");
            let mode = fs::metadata(&there)?.permissions().mode() & 0o7777;
            assert_eq!(mode, 0o741, "the mode comes after the file in its form");
            let back = scratch.join("back.bin");
            cli.run(&["cp", &remote, &back.to_string_lossy()]).await?;
            assert!(fs::read(&back)? == content, "{size} bytes down");
            fs::remove_file(&there)?;
        }
        let missing = format!("{}:{}", device.id, scratch.join("missing").display());
        let back = scratch.join("back.bin");
        assert!(
            cli.run(&["cp", &missing, &back.to_string_lossy()])
                .await
                .is_err()
        );
        Ok(())
    });
}

/// Sends back what it gets.
async fn echo_server() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(address)
}

#[test]
fn ports_are_forwarded() {
    if !can_run() {
        return;
    }
    flow("mender-connect-forward", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let device = Device::start(&scratch, &server, &api, &configuration()).await?;
        let cli = Cli::login(&scratch, &server).await?;
        let remote = echo_server().await?;
        // The tool wants to be told a port; one that was free a moment ago will do.
        let local = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let mapping = format!("{}:{}:{}", local.port(), remote.ip(), remote.port());
        let log = scratch.join("forward.log");
        let mut tool = cli.command("mender-cli");
        tool.args(["port-forward", &device.id, &mapping, "--server", &cli.url]);
        let _forwarding = spawn(&mut tool, &log)?;
        let mut stream = wait_for("the forwarded port", LIMIT, async || {
            Ok(TcpStream::connect(local).await.ok())
        })
        .await?;
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 249) as u8).collect();
        let (mut from, mut to) = stream.split();
        let mut back = vec![0; content.len()];
        let both = async { tokio::try_join!(to.write_all(&content), from.read_exact(&mut back)) };
        timeout(LIMIT, both)
            .await
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())??;
        assert!(back == content);
        let events = wait_for("the audit log", LIMIT, async || {
            let events = api
                .get("/api/management/v1/auditlogs/logs?object_type=device")
                .await?;
            Ok(events
                .to_string()
                .contains("open_portforward")
                .then_some(events))
        })
        .await?;
        assert!(events.to_string().contains(&device.id));
        Ok(())
    });
}

#[test]
fn refusals_are_told_as_documented() {
    if !can_run() {
        return;
    }
    flow("mender-connect-refusals", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut config: serde_json::Value = serde_json::from_str(&configuration())?;
        config["FileTransfer"] = json!({ "Disable": true });
        let mut device = Device::start(&scratch, &server, &api, &config.to_string()).await?;
        let http = http_client(None)?;
        let download = format!(
            "{}{CONNECT}/{}/download?path=/etc/hostname",
            server.url(),
            device.id
        );
        let answer = http.get(&download).bearer_auth(api.token()).send().await?;
        assert_eq!(answer.status(), 502);
        let commands = format!("{}{CONNECT}/{}", server.url(), device.id);
        let command = async |name: &str| {
            let call = http
                .post(format!("{commands}/{name}"))
                .bearer_auth(api.token());
            anyhow::Ok(call.send().await?.status().as_u16())
        };
        assert_eq!(command("check-update").await?, 202);
        device.daemon.kill().await?;
        device.wait_status(&api, "disconnected").await?;
        let answer = http.get(&download).bearer_auth(api.token()).send().await?;
        assert_eq!(answer.status(), 409);
        assert_eq!(command("send-inventory").await?, 409);
        Ok(())
    });
}

/// Our own command line, as the user of `api`.
fn ambidex(scratch: &Scratch, server: &Server, api: &Api, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binaries::cli()?);
    command
        .args(arguments)
        .args(["--server", &server.url(), "--token", api.token()])
        .env("XDG_CONFIG_HOME", scratch.join("config"))
        .kill_on_drop(true);
    Ok(command)
}

#[test]
fn our_command_line_reaches_it() {
    if !can_run() {
        return;
    }
    flow("mender-connect-ambidex", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut config: serde_json::Value = serde_json::from_str(&configuration())?;
        config["User"] = json!("root");
        let device = Device::start(&scratch, &server, &api, &config.to_string()).await?;
        let succeed = async |arguments: &[&str], input: &[u8]| {
            let mut child = ambidex(&scratch, &server, &api, arguments)?
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut stdin = child.stdin.take().context("its input")?;
            stdin.write_all(input).await?;
            drop(stdin);
            let output = timeout(LIMIT, child.wait_with_output()).await;
            let output = output.with_context(|| format!("{arguments:?} hangs"))??;
            if !output.status.success() {
                bail!("{arguments:?}: {output:?}");
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        // Twice: the place of the first shell is free again.
        for _ in 0..2 {
            let commands = b"echo 'I am' $(id -un), $((40 + 2)); stty size\n";
            // As for `mender-cli`: a shell that never says a word is the daemon's; then another one.
            let mut spoken = None;
            for _ in 0..3 {
                match timeout(PROMPT_LIMIT, succeed(&["terminal", &device.id], commands)).await {
                    Ok(shown) => {
                        spoken = Some(shown?);
                        break;
                    }
                    Err(_) => eprintln!("the daemon's shell is silent; trying another"),
                }
            }
            let shown = spoken.context("three shells in a row were silent")?;
            assert!(
                shown.contains("I am root, 42") && shown.contains("24 80"),
                "{shown}"
            );
        }
        let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n * 7 % 251) as u8).collect();
        let (local, there, back) = (
            scratch.join("local.bin"),
            scratch.join("there.bin"),
            scratch.join("back.bin"),
        );
        fs::write(&local, &content)?;
        fs::set_permissions(&local, fs::Permissions::from_mode(0o741))?;
        let remote = format!("{}:{}", device.id, there.display());
        let (local, to) = (local.to_string_lossy(), back.to_string_lossy());
        succeed(&["cp", "--verify", &local, &remote], b"").await?;
        succeed(&["cp", "--verify", &remote, &to], b"").await?;
        assert!(fs::read(&there)? == content && fs::read(&back)? == content);
        assert_eq!(fs::metadata(&there)?.permissions().mode() & 0o7777, 0o741);
        let missing = format!("{}:{}", device.id, scratch.join("no/file").display());
        for ends in [[&*missing, &*to], [&*local, &*missing]] {
            assert!(succeed(&["cp", ends[0], ends[1]], b"").await.is_err());
        }

        let echo = echo_server().await?;
        let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let forwards = [format!("0:{}", echo.port()), format!("0:{closed}")];
        let arguments = ["port-forward", &device.id, &forwards[0], &forwards[1]];
        let mut forwarding = ambidex(&scratch, &server, &api, &arguments)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(forwarding.stdout.take().context("its output")?).lines();
        let mut ports = Vec::new();
        for _ in &forwards {
            let line = timeout(LIMIT, lines.next_line())
                .await??
                .context("a port")?;
            ports.push(line.split(' ').nth(1).context("a place")?.to_owned());
        }
        // The daemon does not say which connection it refuses.
        let mut refused = TcpStream::connect(&ports[1]).await?;
        let read = timeout(LIMIT, refused.read(&mut [0])).await?;
        assert_eq!(read.unwrap_or(0), 0);
        let mut stream = TcpStream::connect(&ports[0]).await?;
        let (mut from, mut to) = stream.split();
        let mut back = vec![0; 200_000];
        let sent = &content[..back.len()];
        let both = async { tokio::try_join!(to.write_all(sent), from.read_exact(&mut back)) };
        timeout(LIMIT, both).await.context("it hangs")??;
        assert!(back == sent);
        let target = format!("{}:{}", device.id, echo.port());
        assert_eq!(succeed(&["ssh-proxy", &target], b"hello").await?, "hello");
        Ok(())
    });
}
