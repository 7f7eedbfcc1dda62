//! Pseudo terminals: for the programs under test, and for the shells of the simulated device.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The end of a terminal at which a person sits.
pub struct Pty {
    end: File,
    output: mpsc::UnboundedReceiver<Vec<u8>>,
    shown: String,
}

/// A command whose standard streams are `terminal` and that has it as its controlling terminal.
pub fn in_terminal(program: impl AsRef<OsStr>, terminal: &OwnedFd) -> Result<Command> {
    let stream = || terminal.try_clone().map(Stdio::from);
    // setsid (util-linux) becomes the program.
    let mut command = Command::new("setsid");
    command
        .arg("--ctty")
        .arg(program)
        .stdin(stream()?)
        .stdout(stream()?)
        .stderr(stream()?)
        .kill_on_drop(true);
    Ok(command)
}

impl Pty {
    /// A terminal of columns and rows, and the end for a program.
    pub fn open(size: (u16, u16)) -> Result<(Self, OwnedFd)> {
        let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("opening a pseudo terminal")?;
        grantpt(&end)?;
        unlockpt(&end)?;
        let name = ptsname(&end, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = open(name, flags, Mode::empty()).context("opening the terminal")?;
        let end = File::from(end);
        let mut reader = end.try_clone()?;
        let (sender, output) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: no program has the terminal any more.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let pty = Self {
            end,
            output,
            shown: String::new(),
        };
        pty.resize(size)?;
        Ok((pty, terminal))
    }

    pub fn resize(&self, (columns, rows): (u16, u16)) -> Result<()> {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.end, size)?)
    }

    /// Whether lines are edited and keys are shown, as in a terminal at rest.
    pub fn at_rest(&self) -> Result<bool> {
        let rest = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        Ok(tcgetattr(&self.end)?.local_modes.contains(rest))
    }

    pub fn type_in(&mut self, keys: &[u8]) -> Result<()> {
        Ok(self.end.write_all(keys)?)
    }

    /// A second handle, to type from another thread.
    pub fn keyboard(&self) -> Result<File> {
        Ok(self.end.try_clone()?)
    }

    /// The next output; none at the end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.output.recv().await
    }

    /// Waits until `wanted` is shown after what earlier calls have waited for; returns what was shown.
    pub async fn wait_to_see(&mut self, wanted: &str, limit: Duration) -> Result<String> {
        let seeing = async {
            loop {
                if let Some(at) = self.shown.find(wanted) {
                    let rest = self.shown.split_off(at + wanted.len());
                    return Ok(std::mem::replace(&mut self.shown, rest));
                }
                match self.output.recv().await {
                    Some(piece) => self.shown.push_str(&String::from_utf8_lossy(&piece)),
                    None => bail!("the terminal ended"),
                }
            }
        };
        let outcome = timeout(limit, seeing).await;
        outcome
            .unwrap_or_else(|_| bail!("the terminal hangs"))
            .with_context(|| format!("waiting to see {wanted:?}; shown was {:?}", self.shown))
    }

    /// Waits for the end of a program and returns its exit code.
    pub async fn exit_code(&mut self, child: &mut Child, limit: Duration) -> Result<Option<i32>> {
        let status = timeout(limit, child.wait()).await;
        let status = status.with_context(|| format!("it does not end; shown: {:?}", self.shown))?;
        Ok(status?.code())
    }
}
