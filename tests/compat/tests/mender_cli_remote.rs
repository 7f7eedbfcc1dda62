//! Debian's `mender-cli`, unmodified: terminal, file transfer and port forward through our server to a
//! device that is connected to it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ambidex_harness::binaries::find_tool;
use ambidex_harness::server::{EMAIL, PASSWORD};
use ambidex_harness::{Api, Scratch, Server, flow, skip, wait_for};
use ambidex_test_compat::{Agent, Manner, Pty, Simulated, in_terminal};
use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
const MAC: &str = "02:00:00:00:0d:01";
/// Ctrl-]
const LEAVE: &[u8] = b"\x1d";

fn installed() -> bool {
    let there = find_tool("mender-cli").is_some();
    if !there {
        skip("mender-cli is not installed (Debian package mender-cli)");
    }
    there
}

/// Which device there is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Simulated(Manner),
    Agent,
}

const KINDS: [Kind; 3] = [
    Kind::Simulated(Manner::Reference),
    Kind::Simulated(Manner::Ours),
    Kind::Agent,
];

enum Device {
    Simulated(Simulated),
    Agent(Agent),
}

impl Device {
    async fn start(kind: Kind, scratch: &Scratch, server: &Server, api: &Api) -> Result<Self> {
        Ok(match kind {
            Kind::Simulated(manner) => {
                Self::Simulated(Simulated::start(server, api, MAC, manner).await?)
            }
            Kind::Agent => {
                let folder = scratch.join("device");
                Self::Agent(Agent::start(&folder, server, api, MAC).await?)
            }
        })
    }

    fn id(&self) -> &str {
        match self {
            Self::Simulated(device) => &device.id,
            Self::Agent(device) => &device.id,
        }
    }

    /// Waits until typing is safe: what comes before the tool has changed its terminal is lost.
    async fn wait_shell(&self, pty: &mut Pty) -> Result<()> {
        match self {
            Self::Simulated(device) => {
                wait_for("the shell", LIMIT, async || {
                    Ok((device.shells() == 1).then_some(()))
                })
                .await
            }
            Self::Agent(_) => pty.wait_to_see(Agent::prompt(), LIMIT).await.map(drop),
        }
    }
}

/// A server, a device, and a user of `mender-cli` who is logged in.
struct Desk {
    server: Server,
    _api: Api,
    device: Device,
    home: PathBuf,
}

impl Desk {
    async fn start(scratch: &Scratch, kind: Kind) -> Result<Self> {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let device = Device::start(kind, scratch, &server, &api).await?;
        let home = scratch.join("home");
        fs::create_dir_all(&home)?;
        let desk = Self {
            server,
            _api: api,
            device,
            home,
        };
        desk.run(&["login", "--username", EMAIL, "--password", PASSWORD])
            .await?;
        Ok(desk)
    }

    fn dress(&self, command: &mut Command, arguments: &[&str]) {
        command
            .args(arguments)
            .args(["--server", &self.server.url()])
            .env("HOME", &self.home)
            .kill_on_drop(true);
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("mender-cli");
        self.dress(&mut command, arguments);
        let output = command.stdin(Stdio::null()).output();
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

#[test]
fn the_terminal_works() {
    if !installed() {
        return;
    }
    for kind in KINDS {
        flow("mender-cli-terminal", async |scratch| {
            let desk = Desk::start(&scratch, kind).await?;
            let (mut pty, terminal) = Pty::open((100, 30))?;
            let mut command = in_terminal("mender-cli", &terminal)?;
            desk.dress(&mut command, &["terminal", desk.device.id()]);
            let mut child = command.spawn()?;
            desk.device.wait_shell(&mut pty).await?;
            pty.type_in(b"echo I am $((40 + 2))\r")?;
            pty.wait_to_see("I am 42", LIMIT).await?;
            pty.type_in(b"stty size\r")?;
            pty.wait_to_see("30 100", LIMIT).await?;
            // A pasted text longer than what the device reads in one message.
            let paste = "# ".to_owned() + &"x".repeat(60) + "\r";
            pty.type_in(paste.repeat(400).as_bytes())?;
            pty.type_in(b"echo after $((1 + 1)) pastes\r")?;
            pty.wait_to_see("after 2 pastes", LIMIT).await?;
            pty.type_in(LEAVE)?;
            pty.exit_code(&mut child, LIMIT).await?;
            ensure!(pty.at_rest()?, "the terminal was not restored");
            Ok(())
        });
    }
}

#[test]
fn files_are_copied_both_ways() {
    if !installed() {
        return;
    }
    for kind in [Kind::Simulated(Manner::Reference), Kind::Agent] {
        flow("mender-cli-cp", async |scratch| {
            let desk = Desk::start(&scratch, kind).await?;
            for size in [0_u32, 4096, 3_000_001] {
                let content: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
                let (local, there, back) = (
                    scratch.join("local.bin"),
                    scratch.join("there.bin"),
                    scratch.join("back.bin"),
                );
                fs::write(&local, &content)?;
                fs::set_permissions(&local, fs::Permissions::from_mode(0o741))?;
                let remote = format!("{}:{}", desk.device.id(), there.display());
                desk.run(&["cp", &local.to_string_lossy(), &remote]).await?;
                ensure!(fs::read(&there)? == content, "{size} bytes up");
                let mode = fs::metadata(&there)?.permissions().mode() & 0o7777;
                ensure!(mode == 0o741, "the mode comes after the file in its form");
                desk.run(&["cp", &remote, &back.to_string_lossy()]).await?;
                ensure!(fs::read(&back)? == content, "{size} bytes down");
                fs::remove_file(&there)?;
            }
            let missing = format!("{}:{}", desk.device.id(), scratch.join("missing").display());
            let back = scratch.join("back.bin");
            let refused = desk.run(&["cp", &missing, &back.to_string_lossy()]).await;
            ensure!(refused.is_err());
            Ok(())
        });
    }
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
    if !installed() {
        return;
    }
    for kind in KINDS {
        flow("mender-cli-forward", async |scratch| {
            let desk = Desk::start(&scratch, kind).await?;
            let remote = echo_server().await?;
            // The tool wants to be told a port; one that was free a moment ago will do.
            let local = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
            let mapping = format!("{}:{}:{}", local.port(), remote.ip(), remote.port());
            let mut command = Command::new("mender-cli");
            desk.dress(&mut command, &["port-forward", desk.device.id(), &mapping]);
            let log = fs::File::create(scratch.join("forward.log"))?;
            let _forwarding = command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            let mut stream = wait_for("the forwarded port", LIMIT, async || {
                Ok(TcpStream::connect(local).await.ok())
            })
            .await?;
            let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 249) as u8).collect();
            let (mut from, mut to) = stream.split();
            let mut back = vec![0; content.len()];
            let both =
                async { tokio::try_join!(to.write_all(&content), from.read_exact(&mut back)) };
            timeout(LIMIT, both)
                .await
                .context("it hangs")
                .with_context(|| {
                    fs::read_to_string(scratch.join("forward.log")).unwrap_or_default()
                })??;
            ensure!(back == content);
            Ok(())
        });
    }
}
