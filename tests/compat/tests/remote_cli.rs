//! `ambidex terminal`, `cp`, `port-forward`, `ssh-proxy` and `session` against the real server and a
//! device that is connected to it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ambidex_harness::server::{EMAIL, PASSWORD};
use ambidex_harness::{Api, Scratch, Server, binaries, flow, wait_for};
use ambidex_test_compat::{Manner, Pty, Simulated, in_terminal};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
const MAC: &str = "02:00:00:00:0c:01";

/// A server, a device and a user of the command line who is logged in.
struct Desk {
    server: Server,
    api: Api,
    device: Simulated,
    home: PathBuf,
}

impl Desk {
    async fn start(scratch: &Scratch, manner: Manner) -> Result<Self> {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let device = Simulated::start(&server, &api, MAC, manner).await?;
        let home = scratch.join("home");
        fs::create_dir_all(&home)?;
        let desk = Self {
            server,
            api,
            device,
            home,
        };
        fs::write(desk.home.join("password"), format!("{PASSWORD}\n"))?;
        let url = desk.server.url();
        let login = [
            "login",
            "--server",
            &url,
            "--email",
            EMAIL,
            "--password-file",
            "password",
        ];
        desk.must(&login).await?;
        Ok(desk)
    }

    fn dress(&self, command: &mut Command) {
        command
            .current_dir(&self.home)
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .kill_on_drop(true);
        for name in [
            "AMBIDEX_SERVER",
            "AMBIDEX_TOKEN",
            "AMBIDEX_PROFILE",
            "AMBIDEX_SERVER_CERT",
        ] {
            command.env_remove(name);
        }
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binaries::cli()?);
        command.args(arguments).stdin(Stdio::null());
        self.dress(&mut command);
        Ok(command)
    }

    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments)?.output();
        timeout(LIMIT, output)
            .await
            .with_context(|| format!("{arguments:?} hangs"))?
            .context("starting the command line")
    }

    /// Runs and expects success; standard output.
    async fn must(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs and expects the exit code; standard error.
    async fn fails(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?} instead of {code}: {output:?}"
        );
        Ok(String::from_utf8(output.stderr)?)
    }

    /// Runs with something on standard input.
    async fn fed(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let mut child = self
            .command(arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("standard input")?;
        let all = input.to_vec();
        let feeding = tokio::spawn(async move {
            // It may end before it has read all.
            let _ = stdin.write_all(&all).await;
        });
        let output = timeout(LIMIT, child.wait_with_output()).await;
        feeding.await?;
        Ok(output.with_context(|| {
            let input = String::from_utf8_lossy(input.get(..40).unwrap_or(input)).into_owned();
            format!("{arguments:?} hangs when given {input:?}")
        })??)
    }

    /// Runs in a terminal. The second value keeps the terminal open when the program has ended.
    fn in_terminal(&self, arguments: &[&str]) -> Result<(Pty, std::os::fd::OwnedFd, Child)> {
        let (pty, terminal) = Pty::open((100, 30))?;
        let mut command = in_terminal(binaries::cli()?, &terminal)?;
        command.args(arguments);
        self.dress(&mut command);
        let child = command.spawn()?;
        Ok((pty, terminal, child))
    }

    fn there(&self, path: &Path) -> String {
        format!("{}:{}", self.device.id, path.display())
    }
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 % 251) as u8).collect()
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

fn entries(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let id = child.id().context("it has ended already")?;
    Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
}

#[test]
fn a_terminal_works_and_its_recording_is_found_again() {
    flow("cli-terminal", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let (mut pty, terminal, mut child) = desk.in_terminal(&["terminal", MAC])?;
        pty.wait_to_see("Ctrl-] ends the session", LIMIT).await?;
        pty.type_in(b"echo I am $((40 + 2))\r")
            .await_seen(&mut pty, "I am 42")
            .await?;
        ensure!(!pty.at_rest()?, "keys are not passed on as they are");
        pty.type_in(b"stty size\r")
            .await_seen(&mut pty, "30 100")
            .await?;
        pty.resize((132, 50))?;
        // The new size travels on its own; ask until it is there.
        pty.type_in(
            b"until [ \"$(stty size)\" = '50 132' ]; do sleep 0.05; done; echo re''sized\r",
        )
        .await_seen(&mut pty, "resized")
        .await?;
        // Pings of the device are answered while nothing else happens.
        let before = desk.device.ping();
        wait_for("the answer to the device's ping", LIMIT, async || {
            Ok((desk.device.ping() > before).then_some(()))
        })
        .await?;
        // Ctrl-C goes to the shell.
        pty.type_in(b"sleep 1000\r")
            .await_seen(&mut pty, "sleep 1000\r\n")
            .await?;
        pty.type_in(b"\x03").await_seen(&mut pty, "$ ").await?;
        pty.type_in(b"echo still he''re\r")
            .await_seen(&mut pty, "still here")
            .await?;
        // Modes that are left on are switched off.
        pty.type_in(b"printf '\\033[?25l'\r")
            .await_seen(&mut pty, "\x1b[?25l")
            .await?;
        pty.type_in(b"\x1d")
            .await_seen(&mut pty, "\x1b[?25h")
            .await?;
        pty.wait_to_see("You have left", LIMIT).await?;
        ensure!(pty.exit_code(&mut child, LIMIT).await? == Some(0));
        ensure!(pty.at_rest()?, "the terminal was not restored");
        drop(terminal);

        let list = ["session", "list", "--device", MAC, "--output", "json"];
        let session = wait_for("the recording", LIMIT, async || {
            let list: Value = serde_json::from_str(&desk.must(&list).await?)?;
            let ended = list[0]["ended_ts"].is_string();
            Ok(ended.then(|| list[0]["id"].as_str().unwrap_or_default().to_owned()))
        })
        .await?;
        let table = desk.must(&["session", "list"]).await?;
        ensure!(
            table.contains(&session) && table.contains("BEGUN"),
            "{table}"
        );
        let cast = desk.home.join("night.cast");
        desk.must(&["session", "export", &session, "-o", "night.cast"])
            .await?;
        let cast = fs::read_to_string(cast)?;
        let head: Value = serde_json::from_str(cast.lines().next().unwrap_or_default())?;
        ensure!(head["version"] == 2 && cast.contains("I am 42"), "{cast}");
        ensure!(desk.must(&["session", "export", &session]).await? == cast);
        let play = [
            "session",
            "play",
            &session,
            "--speed",
            "100",
            "--max-idle",
            "0",
        ];
        let played = desk.must(&play).await?;
        ensure!(played.contains("I am 42"), "{played}");
        desk.fails(
            1,
            &["session", "play", "00000000-0000-4000-8000-000000000000"],
        )
        .await?;
        Ok(())
    });
}

/// Types, then waits.
trait AwaitSeen {
    async fn await_seen(self, pty: &mut Pty, wanted: &str) -> Result<()>;
}

impl AwaitSeen for Result<()> {
    async fn await_seen(self, pty: &mut Pty, wanted: &str) -> Result<()> {
        self?;
        pty.wait_to_see(wanted, LIMIT).await.map(drop)
    }
}

#[test]
fn the_end_of_the_shell_ends_the_terminal() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-terminal-exit", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let (mut pty, _terminal, mut child) =
                desk.in_terminal(&["terminal", &desk.device.id])?;
            pty.wait_to_see("Ctrl-]", LIMIT).await?;
            pty.type_in(b"exit\r")
                .await_seen(&mut pty, "has ended")
                .await?;
            ensure!(pty.exit_code(&mut child, LIMIT).await? == Some(0));
            ensure!(pty.at_rest()?);
            Ok(())
        });
    }
}

#[test]
fn a_terminal_is_restored_whatever_ends_it() {
    flow("cli-terminal-ends", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        for ending in [
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGINT,
        ] {
            let (mut pty, _terminal, mut child) = desk.in_terminal(&["terminal", MAC])?;
            pty.wait_to_see("Ctrl-]", LIMIT).await?;
            pty.type_in(b"echo rea''dy\r")
                .await_seen(&mut pty, "ready")
                .await?;
            signal(&child, ending)?;
            let code = pty.exit_code(&mut child, LIMIT).await?;
            ensure!(code == Some(1), "{ending}: {code:?}");
            ensure!(pty.at_rest()?, "{ending}: the terminal was not restored");
        }
        // The device goes.
        let (mut pty, _terminal, mut child) = desk.in_terminal(&["terminal", MAC])?;
        pty.wait_to_see("Ctrl-]", LIMIT).await?;
        pty.type_in(b"echo rea''dy\r")
            .await_seen(&mut pty, "ready")
            .await?;
        desk.device.break_now();
        pty.wait_to_see("disconnected", LIMIT).await?;
        ensure!(pty.exit_code(&mut child, LIMIT).await? == Some(1));
        ensure!(pty.at_rest()?);
        Ok(())
    });
}

#[test]
fn commands_come_from_a_pipe() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-terminal-pipe", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let terminal = ["terminal", "02:00:00:00:0c"];
            for input in [
                "echo $((40 + 2)); exit\n",
                "echo $((40 + 2))\n",
                "echo $((40 + 2))",
            ] {
                let output = desk.fed(&terminal, input.as_bytes()).await?;
                let shown = String::from_utf8_lossy(&output.stdout).into_owned();
                ensure!(output.status.success(), "{input:?}: {output:?}");
                ensure!(shown.contains("42"), "{input:?}: {shown}");
                ensure!(output.stderr.is_empty(), "{output:?}");
            }
            // More than the device reads in one message, and than it takes while it writes.
            let lines = "echo $((40 + 2))\n".repeat(4000);
            let output = desk.fed(&terminal, lines.as_bytes()).await?;
            let shown = String::from_utf8_lossy(&output.stdout);
            let count = shown.matches("42").count();
            ensure!(output.status.success() && count == 4000, "{count} lines");
            Ok(())
        });
    }
}

#[test]
fn devices_that_cannot_be_reached_are_told_apart() {
    flow("cli-remote-refusals", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let offers_files = vec![ambidex_wire::session::PROTO_FILE];
        let other = Simulated::start_with(
            &desk.server,
            &desk.api,
            "02:00:00:00:0c:02",
            Manner::Ours,
            offers_files,
        )
        .await?;
        let told = desk.fails(2, &["terminal", "02:00:00:00:0c"]).await?;
        ensure!(
            told.contains("2 devices") && told.contains(&other.id),
            "{told}"
        );
        let told = desk.fails(1, &["terminal", "no-such-device"]).await?;
        ensure!(told.contains("no accepted device"), "{told}");
        let told = desk.fails(1, &["terminal", &other.id]).await?;
        ensure!(told.contains("starts no shell"), "{told}");
        let told = desk.fails(1, &["port-forward", &other.id, "0:80"]).await?;
        ensure!(told.contains("does not offer port forwarding"), "{told}");
        let told = desk
            .fails(2, &["port-forward", &other.id, "icmp/1"])
            .await?;
        ensure!(told.contains("neither tcp nor udp"), "{told}");
        let id = other.id.clone();
        other.leave(&desk.api).await?;
        let there = format!("{id}:/etc/hostname");
        for verb in [
            &["terminal", &id][..],
            &["cp", &there, "x"],
            &["ssh-proxy", &id],
        ] {
            let told = desk.fails(1, verb).await?;
            ensure!(told.contains("not connected"), "{verb:?}: {told}");
        }
        desk.must(&["login", "--forget"]).await.ok();
        let mut anonymous = desk.command(&["terminal", &id])?;
        anonymous.env("XDG_CONFIG_HOME", scratch.join("nobody"));
        let output = anonymous.output().await?;
        ensure!(output.status.code() == Some(3), "{output:?}");
        Ok(())
    });
}

#[test]
fn files_are_copied_both_ways() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-cp", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let local = scratch.join("local.bin");
            let there = scratch.join("there.bin");
            let back = scratch.join("back.bin");
            let remote = desk.there(&there);
            let text = |path: &Path| path.to_string_lossy().into_owned();
            for (size, permissions) in [(0, 0o640), (4096, 0o755), (3_000_001, 0o741)] {
                let data = content(size);
                fs::write(&local, &data)?;
                fs::set_permissions(&local, fs::Permissions::from_mode(permissions))?;
                fs::write(&there, "before")?;
                let printed = desk
                    .must(&["cp", "--verify", &text(&local), &remote])
                    .await?;
                ensure!(fs::read(&there)? == data, "{size} bytes up");
                ensure!(mode(&there)? == permissions);
                let digest = sha256(&data);
                ensure!(printed == format!("{digest}  {remote}\n"), "{printed}");
                fs::write(&back, "before")?;
                let printed = desk
                    .must(&["cp", "--verify", &remote, &text(&back)])
                    .await?;
                ensure!(fs::read(&back)? == data, "{size} bytes down");
                ensure!(mode(&back)? == permissions);
                ensure!(
                    printed == format!("{digest}  {}\n", text(&back)),
                    "{printed}"
                );
            }
            // Into directories, to standard output, for programs.
            let folder = scratch.join("folder");
            fs::create_dir(&folder)?;
            desk.must(&["cp", &text(&local), &desk.there(&folder)])
                .await?;
            ensure!(entries(&folder)? == ["local.bin"]);
            let downloads = scratch.join("downloads");
            fs::create_dir(&downloads)?;
            desk.must(&["cp", &remote, &text(&downloads)]).await?;
            ensure!(entries(&downloads)? == ["there.bin"]);
            let output = desk.run(&["cp", &remote, "-"]).await?;
            ensure!(output.stdout == content(3_000_001));
            let told = desk
                .must(&["cp", "--output", "json", &text(&local), &remote])
                .await?;
            let told: Value = serde_json::from_str(&told)?;
            ensure!(
                told["bytes"] == 3_000_001 && told["verified"] == false,
                "{told}"
            );

            let missing = desk.there(&scratch.join("missing"));
            desk.fails(1, &["cp", &missing, &text(&back)]).await?;
            ensure!(fs::read(&back)?.len() == 3_000_001, "the old file is gone");
            let nowhere = desk.there(&scratch.join("no/such/folder"));
            desk.fails(1, &["cp", &text(&local), &nowhere]).await?;
            desk.fails(1, &["cp", &desk.there(&folder), &text(&back)])
                .await?;
            desk.fails(1, &["cp", &text(&local), &format!("{missing}/")])
                .await?;
            desk.fails(1, &["cp", "--quiet", &remote, "/dev/null"])
                .await?;
            desk.fails(2, &["cp", "a", "b"]).await?;
            desk.fails(2, &["cp", &remote, &remote]).await?;
            desk.device.spoil_files(1);
            let told = desk
                .fails(1, &["cp", "--verify", &text(&local), &remote])
                .await?;
            ensure!(told.contains("verification failed"), "{told}");
            Ok(())
        });
    }
}

fn sha256(data: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(data))
}

#[test]
fn a_copy_begins_again_when_the_connection_is_lost() {
    flow("cli-cp-again", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let data = content(3_000_001);
        let place = scratch.join("place");
        fs::create_dir(&place)?;
        let (local, there) = (scratch.join("local.bin"), place.join("there.bin"));
        fs::write(&local, &data)?;
        let (from, to) = (local.to_string_lossy().into_owned(), desk.there(&there));
        desk.device.break_in_files(1);
        let output = desk.run(&["cp", &from, &to]).await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && told.contains("beginning again"),
            "{told}"
        );
        ensure!(fs::read(&there)? == data && entries(&place)? == ["there.bin"]);

        let back = scratch.join("back.bin").to_string_lossy().into_owned();
        desk.device.break_in_files(1);
        desk.must(&["cp", &to, &back]).await?;
        ensure!(fs::read(&back)? == data);

        desk.device.break_in_files(1);
        desk.fails(1, &["cp", "--retries", "0", &from, &to]).await?;
        wait_for("the device to clean up", LIMIT, async || {
            Ok((entries(&place)? == ["there.bin"]).then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn an_interrupted_copy_leaves_nothing_half() {
    flow("cli-cp-interrupted", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Reference).await?;
        let (here, place) = (scratch.join("here"), scratch.join("place"));
        fs::create_dir(&here)?;
        fs::create_dir(&place)?;
        let (local, there) = (scratch.join("local.bin"), place.join("there.bin"));
        // It never comes to an end by itself.
        File::create(&local)?.set_len(1 << 40)?;
        let from = local.to_string_lossy().into_owned();
        let up = desk.command(&["cp", &from, &desk.there(&there)])?.spawn()?;
        let down = desk.command(&["cp", &desk.there(&local), "here/back.bin"]);
        let down = down?.current_dir(scratch.path()).spawn()?;
        for (mut child, folder) in [(up, &place), (down, &here)] {
            wait_for("the copy to be under way", LIMIT, async || {
                let mut files = fs::read_dir(folder)?.filter_map(Result::ok);
                let grows = files.any(|file| file.metadata().is_ok_and(|meta| meta.len() > 0));
                Ok(grows.then_some(()))
            })
            .await?;
            signal(&child, Signal::SIGINT)?;
            let status = timeout(LIMIT, child.wait()).await??;
            ensure!(status.code() == Some(1), "{status}");
            wait_for("nothing to be left", LIMIT, async || {
                Ok(entries(folder)?.is_empty().then_some(()))
            })
            .await?;
        }
        Ok(())
    });
}

/// Sends back what it gets.
async fn echo_server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(port)
}

async fn udp_echo_server() -> Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let port = socket.local_addr()?.port();
    tokio::spawn(async move {
        let mut buffer = [0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..count], from).await;
        }
    });
    Ok(port)
}

/// A port forward that runs, and where its ports are.
async fn forwarding(desk: &Desk, forwards: &[String]) -> Result<(Child, Vec<String>)> {
    let forwards: Vec<&str> = forwards.iter().map(String::as_str).collect();
    let arguments = [&["port-forward", &desk.device.id][..], &forwards].concat();
    let mut child = desk.command(&arguments)?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut places = Vec::new();
    for _ in &forwards {
        let line = timeout(LIMIT, lines.next_line()).await??;
        let line = line.context("it prints no more ports")?;
        let place = line.split(' ').nth(1).context("a place")?.to_owned();
        places.push(place);
    }
    Ok((child, places))
}

async fn echoed(place: &str, size: usize) -> Result<()> {
    let mut stream = TcpStream::connect(place).await?;
    let data = content(size);
    let mut back = vec![0; data.len()];
    let (mut from, mut to) = stream.split();
    let both = async { tokio::try_join!(to.write_all(&data), from.read_exact(&mut back)) };
    timeout(LIMIT, both).await.context("it hangs")??;
    ensure!(back == data, "the echo is another");
    Ok(())
}

#[test]
fn ports_are_forwarded() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-port-forward", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let (tcp, udp) = (echo_server().await?, udp_echo_server().await?);
            let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
            let forwards = [
                format!("0:{tcp}"),
                format!("udp/0:127.0.0.1:{udp}"),
                format!("0:localhost:{tcp}"),
                format!("0:{closed}"),
            ];
            let (mut child, places) = forwarding(&desk, &forwards).await?;
            echoed(&places[0], 1_000_000).await?;
            echoed(&places[2], 100).await?;
            let many = (0..20).map(|n| echoed(&places[0], 10_000 + n));
            futures_util::future::try_join_all(many).await?;

            // What the device cannot reach is closed at once, and said.
            let mut refused = TcpStream::connect(&places[3]).await?;
            let mut nothing = [0];
            let count = timeout(LIMIT, refused.read(&mut nothing)).await?;
            ensure!(count.unwrap_or(0) == 0);

            // Each local sender gets its own answers.
            for name in ["one", "other"] {
                let socket = UdpSocket::bind("127.0.0.1:0").await?;
                socket.connect(&places[1]).await?;
                let datagram = name.repeat(400);
                socket.send(datagram.as_bytes()).await?;
                let mut back = [0; 4096];
                let count = timeout(LIMIT, socket.recv(&mut back)).await??;
                ensure!(back[..count] == *datagram.as_bytes());
            }

            // An open connection does not hold up the end.
            let mut open = TcpStream::connect(&places[0]).await?;
            open.write_all(b"x").await?;
            open.read_exact(&mut nothing).await?;
            signal(&child, Signal::SIGINT)?;
            let status = timeout(LIMIT, child.wait()).await??;
            ensure!(status.success(), "{status}");
            ensure!(timeout(LIMIT, open.read(&mut nothing)).await?.unwrap_or(0) == 0);
            Ok(())
        });
    }
}

#[test]
fn a_port_forward_connects_again() {
    flow("cli-port-forward-again", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let tcp = echo_server().await?;
        let (mut child, places) = forwarding(&desk, &[format!("0:{tcp}")]).await?;
        let mut open = TcpStream::connect(&places[0]).await?;
        let mut nothing = [0];
        open.write_all(b"x").await?;
        open.read_exact(&mut nothing).await?;
        desk.device.break_now();
        ensure!(timeout(LIMIT, open.read(&mut nothing)).await?.unwrap_or(0) == 0);
        // The port is still there; whoever comes waits until the device is back.
        echoed(&places[0], 10_000).await?;
        signal(&child, Signal::SIGTERM)?;
        ensure!(timeout(LIMIT, child.wait()).await??.success());
        Ok(())
    });
}

#[test]
fn ssh_finds_its_way() {
    flow("cli-ssh-proxy", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        // Says who it is, answers once, closes: as much of SSH as a proxy sees.
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port().to_string();
        let data = content(500_000);
        let expected = data.len();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut got = vec![0; expected];
                let talk = async {
                    stream.write_all(b"SSH-2.0-test\r\n").await?;
                    stream.read_exact(&mut got).await?;
                    stream.write_all(&got).await
                };
                let _ = talk.await;
            }
        });
        let target = format!("{}:{port}", desk.device.id);
        for arguments in [
            &["ssh-proxy", &target][..],
            &["ssh-proxy", MAC, "--port", &port],
        ] {
            let output = desk.fed(arguments, &data).await?;
            ensure!(
                output.status.success(),
                "{:?}",
                String::from_utf8_lossy(&output.stderr)
            );
            ensure!(output.stdout.starts_with(b"SSH-2.0-test\r\n"));
            ensure!(output.stdout.get(14..) == Some(&data[..]), "other bytes");
        }
        let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let told = desk
            .fails(1, &["ssh-proxy", &format!("{}:{closed}", desk.device.id)])
            .await?;
        ensure!(told.contains("refused"), "{told}");
        // OpenSSH ends its proxy with a hangup.
        let mut child = desk
            .command(&["ssh-proxy", &target])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut greeting = [0; 14];
        let stdout = child.stdout.as_mut().context("its output")?;
        timeout(LIMIT, stdout.read_exact(&mut greeting)).await??;
        signal(&child, Signal::SIGHUP)?;
        let _stdin = child.stdin.take();
        let output = timeout(LIMIT, child.wait_with_output()).await??;
        if !output.status.success() || !output.stderr.is_empty() {
            bail!("{output:?}");
        }
        Ok(())
    });
}

/// What stands before a server in the field: takes TLS off. Its address.
async fn tls_front(server: SocketAddr, cert: &Path, key: &Path) -> Result<SocketAddr> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(cert)?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us goes away.
                let mut outside = acceptor.accept(stream).await?;
                let mut inside = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    Ok(address)
}

#[test]
fn sessions_are_as_private_as_all_else() {
    flow("cli-remote-tls", async |scratch| {
        let Some((cert, key)) = ambidex_harness::tls::self_signed(scratch.path())? else {
            return Ok(());
        };
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let front = tls_front(desk.server.address(), &cert, &key).await?;
        let url = format!("https://{front}");
        let token = desk.api.token();
        let cert = cert.to_string_lossy().into_owned();
        let trusting = ["--server", &url, "--token", token, "--server-cert", &cert];
        let terminal = [&["terminal", MAC][..], &trusting].concat();
        let output = desk.fed(&terminal, b"echo $((40 + 2))\n").await?;
        let shown = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && shown.contains("42"),
            "{output:?}"
        );
        let local = desk.home.join("local.bin");
        fs::write(&local, content(1_000_000))?;
        let there = desk.there(&scratch.join("there.bin"));
        let copy = ["cp", "--verify", "local.bin", &there];
        desk.must(&[&copy[..], &trusting].concat()).await?;
        let told = desk.fails(1, &[&copy[..], &trusting[..4]].concat()).await?;
        ensure!(told.contains("certificate"), "{told}");
        desk.must(&[&copy[..], &trusting[..4], &["--insecure"]].concat())
            .await?;
        let anybody = [
            "--server",
            &url,
            "--token",
            "nonsense",
            "--server-cert",
            &cert,
        ];
        desk.fails(3, &[&["terminal", &desk.device.id], &anybody[..]].concat())
            .await?;
        Ok(())
    });
}
