//! One QEMU, from a start of the guest to its reset.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;

use crate::board::option_value;
use crate::child;

/// The name of the port through which the guest hands over the argument of its restart.
const PORT: &str = "org.ambidex.firmware";
const ARGUMENT_BYTES_MAX: u64 = 4096;

/// How a start of the guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By a reset: the guest's own, the watchdog's, or that of the button.
    Reset {
        /// What the guest had said before.
        argument: String,
    },
    /// The guest has switched itself off, or QEMU was told to end.
    Off,
}

/// Two sockets that QEMU connects to each time that it starts: its events, and the guest's port.
#[derive(Debug)]
pub(super) struct Lines {
    events: UnixListener,
    mailbox: UnixListener,
    folder: PathBuf,
}

impl Lines {
    pub fn open(folder: &Path) -> Result<Self> {
        let listen = |name: &str| {
            let path = folder.join(name);
            if path.exists() {
                std::fs::remove_file(&path)
                    .with_context(|| format!("removing {}", path.display()))?;
            }
            UnixListener::bind(&path).with_context(|| format!("opening {}", path.display()))
        };
        Ok(Self {
            events: listen("events")?,
            mailbox: listen("mailbox")?,
            folder: folder.to_owned(),
        })
    }

    /// QEMU's arguments for them. The guest's port needs a device `virtio-serial-pci`.
    pub fn arguments(&self) -> Vec<String> {
        let socket = |id: &str| {
            let path = option_value(&self.folder.join(id));
            format!("socket,id={id},server=off,path={path}")
        };
        [
            "-chardev",
            &socket("events"),
            "-mon",
            "chardev=events,mode=control",
            "-chardev",
            &socket("mailbox"),
            "-device",
            &format!("virtserialport,chardev=mailbox,name={PORT}"),
        ]
        .map(str::to_owned)
        .into()
    }

    /// Waits for the end of a QEMU that has just been started.
    pub async fn end(&self, qemu: &mut Child) -> Result<End> {
        let errors = self.folder.join("qemu.err");
        let connected = async {
            let (events, _) = self.events.accept().await.context("waiting for QEMU")?;
            let (mailbox, _) = self.mailbox.accept().await.context("waiting for QEMU")?;
            anyhow::Ok((events, mailbox))
        };
        let (events, mailbox) = tokio::select! {
            connected = connected => connected?,
            status = qemu.wait() => bail!(
                "QEMU does not start, it ended with {}: {}",
                status.context("waiting for QEMU")?,
                child::tail(&errors, 1000)
            ),
        };
        // both end with QEMU
        let (reason, argument) = tokio::try_join!(reason(events), argument(mailbox))?;
        let status = qemu.wait().await.context("waiting for QEMU")?;
        if !status.success() {
            bail!("QEMU ended with {status}: {}", child::tail(&errors, 1000));
        }
        // the watchdog's resets are the guest's
        Ok(match reason.as_deref() {
            Some("guest-reset" | "host-qmp-system-reset") => End::Reset { argument },
            _ => End::Off,
        })
    }
}

/// Why QEMU ends, as the last event says that tells; none when it just ends.
async fn reason(stream: UnixStream) -> Result<Option<String>> {
    let mut stream = BufReader::new(stream);
    // events come after this
    stream
        .get_mut()
        .write_all(b"{\"execute\":\"qmp_capabilities\"}\n")
        .await
        .context("writing to QEMU")?;
    let mut reason = None;
    let mut line = String::new();
    while matches!(stream.read_line(&mut line).await, Ok(1..)) {
        let message: Value =
            serde_json::from_str(&line).context("QEMU says something else than JSON")?;
        if message["event"] == "SHUTDOWN" {
            reason = message["data"]["reason"].as_str().map(str::to_owned);
        }
        line.clear();
    }
    Ok(reason)
}

/// What the guest writes to its port; of several lines the last.
async fn argument(stream: UnixStream) -> Result<String> {
    let mut said = Vec::new();
    // a connection that breaks off has brought what it has brought
    let _ = stream.take(ARGUMENT_BYTES_MAX).read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().last().unwrap_or_default().trim().to_owned())
}

/// Where the guest's serial port and the firmware's own words go.
#[derive(Debug)]
pub enum Wire {
    /// This program's terminal.
    Terminal,
    /// One end of a socket; it outlives every QEMU.
    Socket(UnixStream),
}

impl Wire {
    /// QEMU's standard input and output.
    pub(super) fn ends(&self) -> Result<(Stdio, Stdio)> {
        use std::os::fd::AsFd as _;
        match self {
            Self::Terminal => Ok((Stdio::inherit(), Stdio::inherit())),
            Self::Socket(socket) => {
                let end = || {
                    let copy = socket.as_fd().try_clone_to_owned();
                    copy.map(Stdio::from)
                        .context("duplicating the console's file descriptor")
                };
                Ok((end()?, end()?))
            }
        }
    }

    /// A command whose process is in the right process group to use it.
    pub(super) fn command(&self, program: &str) -> tokio::process::Command {
        match self {
            Self::Terminal => child::attached(program),
            Self::Socket(_) => child::command(program),
        }
    }

    pub(super) async fn say(&mut self, words: &str) -> Result<()> {
        match self {
            Self::Terminal => {
                eprint!("{words}\r\n");
                Ok(())
            }
            Self::Socket(socket) => socket
                .write_all(format!("{words}\r\n").as_bytes())
                .await
                .context("writing to the console"),
        }
    }
}
