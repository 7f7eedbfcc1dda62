//! Everything at once, a shell, a file each way and a forwarded connection, and then one of those who take
//! part is gone: users are told, nothing goes on on the device, no file is half there.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use ambidex_harness::proxy::Fault;
use ambidex_harness::{Proxy, Scratch, flow, wait_for};
use ambidex_test_compat::{Agent, Pty};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::time::timeout;

use crate::desk::{Desk, LIMIT, entries, signal};
use crate::forward::forwarding;

/// Too much to come to an end by itself.
const SIZE: u64 = 64 << 20;
const BYTES_PER_SECOND: u64 = 1 << 20;

/// Everything that a user can do with a device, under way.
struct Busy {
    desk: Desk<Agent>,
    proxy: Proxy,
    pty: Pty,
    _terminal: OwnedFd,
    shell: Child,
    /// The shell and a job of it that ignores hang-ups.
    pids: [i32; 2],
    copies: [Child; 2],
    forward: Child,
    near: TcpStream,
    far: TcpStream,
    there: PathBuf,
    here: PathBuf,
}

fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

impl Busy {
    async fn start(scratch: &Scratch) -> Result<Self> {
        let (desk, proxy) = Desk::behind_proxy(scratch).await?;
        let (mut pty, terminal, shell) = desk.in_terminal(&["terminal", &desk.id])?;
        pty.wait_to_see(Agent::prompt(), LIMIT).await?;
        pty.type_in(b"set -m; (trap '' HUP; exec sleep 1000) &\r")?;
        pty.type_in(b"echo pids'='$$,$!'='\r")?;
        let shown = pty.wait_to_see("=\r\n", LIMIT).await?;
        let (_, pids) = shown.rsplit_once("pids=").context("the process ids")?;
        let pids = pids.trim_end_matches("=\r\n").split_once(',');
        let (first, second) = pids.context("two process ids")?;
        let pids = [first.parse()?, second.parse()?];

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let to = format!("0:{}", listener.local_addr()?.port());
        let (forward, places) = forwarding(&desk, &[to]).await?;
        let mut near = TcpStream::connect(&places[0]).await?;
        let (mut far, _) = timeout(LIMIT, listener.accept()).await??;
        near.write_all(b"x").await?;
        far.read_exact(&mut [0]).await?;

        let (there, here) = (scratch.join("there"), scratch.join("here"));
        fs::create_dir(&there)?;
        fs::create_dir(&here)?;
        let source = scratch.join("source");
        File::create(&source)?.set_len(SIZE)?;
        fs::write(there.join("f"), "old")?;
        fs::write(here.join("f"), "old")?;
        let source = source.to_string_lossy().into_owned();
        let target = here.join("f").to_string_lossy().into_owned();
        proxy.set(Fault::Slow {
            bytes_per_second: BYTES_PER_SECOND,
        });
        let copy = |from: &str, to: &str| -> Result<Child> {
            let mut command = desk.command(&["cp", "--retries", "0", from, to])?;
            Ok(command.stderr(Stdio::piped()).spawn()?)
        };
        let copies = [
            copy(&source, &desk.there(&there.join("f")))?,
            copy(&format!("{}:{source}", desk.id), &target)?,
        ];
        for folder in [&there, &here] {
            wait_for("the copies to be under way", LIMIT, async || {
                let mut files = fs::read_dir(folder)?.filter_map(Result::ok);
                let grows = files.any(|file| file.metadata().is_ok_and(|meta| meta.len() > 4096));
                Ok(grows.then_some(()))
            })
            .await?;
        }
        Ok(Self {
            desk,
            proxy,
            pty,
            _terminal: terminal,
            shell,
            pids,
            copies,
            forward,
            near,
            far,
            there,
            here,
        })
    }

    /// Every user hears what has happened: one of these words.
    async fn users_are_told(&mut self, words: &[&str]) -> Result<()> {
        let code = self.pty.exit_code(&mut self.shell, LIMIT).await?;
        ensure!(code == Some(1), "the terminal ends with {code:?}");
        ensure!(self.pty.at_rest()?, "the terminal was not restored");
        self.pty.wait_to_see("ambidex: ", LIMIT).await?;
        let mut all = vec![self.pty.wait_to_see("\r\n", LIMIT).await?];
        for copy in &mut self.copies {
            let status = timeout(LIMIT, copy.wait()).await??;
            let mut text = String::new();
            let stderr = copy.stderr.as_mut().context("its words")?;
            stderr.read_to_string(&mut text).await?;
            ensure!(
                status.code() == Some(1),
                "a copy ends with {status}: {text}"
            );
            all.push(text);
        }
        for text in all {
            ensure!(words.iter().any(|word| text.contains(word)), "{text:?}");
        }
        self.forward_is_closed().await
    }

    /// At both of its ends.
    async fn forward_is_closed(&mut self) -> Result<()> {
        for (name, end) in [("near", &mut self.near), ("far", &mut self.far)] {
            let read = timeout(LIMIT, end.read(&mut [0])).await;
            let read = read.with_context(|| format!("the {name} end stays open"))?;
            ensure!(read.unwrap_or(0) == 0, "something came to the {name} end");
        }
        Ok(())
    }

    /// Nothing that a session has started goes on.
    async fn nothing_runs(&self) -> Result<()> {
        wait_for("the end of the shell and its job", LIMIT, async || {
            Ok((!self.pids.iter().any(|pid| is_alive(*pid))).then_some(()))
        })
        .await
        .with_context(|| format!("{:?}: {}", self.pids, self.desk.device.log()))
    }

    /// Names stand for what they stood for before; what may be continued is hidden.
    fn no_half_file(&self) -> Result<()> {
        for folder in [&self.there, &self.here] {
            ensure!(fs::read_to_string(folder.join("f"))? == "old");
            for name in entries(folder)? {
                ensure!(name == "f" || name.starts_with(".ambidex-"), "{name}");
            }
        }
        Ok(())
    }
}

#[test]
fn the_agent_is_killed() {
    flow("faults-agent", async |scratch| {
        let mut busy = Busy::start(&scratch).await?;
        busy.desk.device.kill().await?;
        busy.users_are_told(&["the device has disconnected", "device disconnected"])
            .await?;
        busy.no_half_file()?;
        ensure!(entries(&busy.here)? == ["f"]);
        // what ignores the hang-up ends when the agent is back
        busy.desk.device.start_again()?;
        busy.nothing_runs().await
    });
}

#[test]
fn the_server_is_killed() {
    flow("faults-server", async |scratch| {
        let mut busy = Busy::start(&scratch).await?;
        busy.desk.server.kill().await?;
        busy.users_are_told(&["the connection to the server was lost", "the server ended"])
            .await?;
        busy.nothing_runs().await?;
        busy.no_half_file()?;
        ensure!(entries(&busy.here)? == ["f"]);
        Ok(())
    });
}

#[test]
fn the_command_line_is_killed() {
    flow("faults-command-line", async |scratch| {
        let mut busy = Busy::start(&scratch).await?;
        for child in [&busy.shell, &busy.forward, &busy.copies[0], &busy.copies[1]] {
            signal(child, Signal::SIGKILL)?;
        }
        busy.nothing_runs().await?;
        busy.forward_is_closed().await?;
        busy.no_half_file()
    });
}

#[test]
fn the_network_is_cut() {
    flow("faults-network", async |scratch| {
        let mut busy = Busy::start(&scratch).await?;
        busy.proxy.set(Fault::Refuse);
        busy.proxy.cut();
        busy.users_are_told(&["the connection to the server was lost", "the server ended"])
            .await?;
        busy.nothing_runs().await?;
        busy.no_half_file()?;
        ensure!(entries(&busy.here)? == ["f"]);
        Ok(())
    });
}
