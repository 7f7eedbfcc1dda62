//! A board behind a serial port and a power switch that a shell command operates.
//!
//! The port stays open while the board is on and off, as a cable stays plugged in. Two threads carry bytes between it and
//! a socket, so that the console is the same as that of an emulated board.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambidex_harness::board::{BOOT_LIMIT, Console, Settings};
use anyhow::{Context, Result, bail};

use super::HardwareFile;

/// How long a read of the port waits before it looks whether anybody still listens.
const READ_LIMIT: Duration = Duration::from_millis(200);

/// The board; switched off on drop.
#[derive(Debug)]
pub struct SerialBoard {
    file: HardwareFile,
    folder: PathBuf,
    image: PathBuf,
    console: Console,
}

impl SerialBoard {
    /// Opens the port, switches the board off and writes the factory `image` to its storage.
    pub async fn open(
        file: HardwareFile,
        folder: &Path,
        image: &Path,
        settings: &Settings,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let near = carry(&file)?;
        near.set_nonblocking(true)
            .context("setting up the console's socket")?;
        let near =
            tokio::net::UnixStream::from_std(near).context("setting up the console's socket")?;
        let console = Console::over(near, &folder.join("console.log"))?;
        let board = Self {
            file,
            folder: folder.to_owned(),
            image: image.to_owned(),
            console,
        };
        board.set_settings(settings)?;
        board.power_off().await?;
        if let Some(flash) = &board.file.flash {
            board.hook("flash", flash).await?;
        }
        Ok(board)
    }

    /// The hooks find the settings in `AMBIDEX_HIL_SETTINGS`.
    pub fn set_settings(&self, settings: &Settings) -> Result<()> {
        std::fs::write(self.folder.join("agent.toml"), &settings.agent_toml)
            .context("writing the agent's settings")?;
        let key = self.folder.join("verify-key.pem");
        match &settings.verify_key {
            Some(from) => std::fs::copy(from, &key)
                .map(drop)
                .with_context(|| format!("copying {}", from.display())),
            None => Ok(()),
        }
    }

    pub async fn power_on(&mut self) -> Result<()> {
        self.hook("power_on", &self.file.power_on).await
    }

    pub async fn power_off(&self) -> Result<()> {
        self.hook("power_off", &self.file.power_off).await
    }

    pub fn console(&mut self) -> Result<&mut Console> {
        Ok(&mut self.console)
    }

    /// Everything the console has shown, over all boots.
    pub fn console_log(&self) -> String {
        let log = std::fs::read(self.folder.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Goes through the login of the configuration.
    pub async fn log_in(&mut self) -> Result<()> {
        for pair in self.file.login.chunks(2) {
            let [prompt, answer] = pair else { continue };
            // a prompt is no whole line: an empty one makes it one
            self.console.send("").await?;
            self.console.line_with(prompt, BOOT_LIMIT).await?;
            self.console.send(answer).await?;
        }
        Ok(())
    }

    fn command(&self, line: &str) -> std::process::Command {
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", line])
            .env("AMBIDEX_HIL_SETTINGS", self.folder.join("agent.toml"))
            .env("AMBIDEX_HIL_VERIFY_KEY", self.folder.join("verify-key.pem"))
            .env("AMBIDEX_HIL_IMAGE", &self.image)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs a hook to its end.
    async fn hook(&self, name: &str, line: &str) -> Result<()> {
        let status = tokio::process::Command::from(self.command(line))
            .status()
            .await
            .with_context(|| format!("starting {name} (`{line}`)"))?;
        if !status.success() {
            bail!("{name} (`{line}`) ended with {status}");
        }
        Ok(())
    }
}

impl Drop for SerialBoard {
    fn drop(&mut self) {
        // nobody is left to hear of an error
        let _ = self.command(&self.file.power_off).status();
    }
}

/// Opens the port and returns the near end of a socket whose far end is the port.
fn carry(file: &HardwareFile) -> Result<UnixStream> {
    let path = file.port.to_string_lossy();
    let mut port = serialport::new(path.as_ref(), file.baud)
        .timeout(READ_LIMIT)
        .open()
        .with_context(|| format!("opening the serial port {path} at {} baud", file.baud))?;
    let mut to_port = port
        .try_clone()
        .with_context(|| format!("opening {path} for writing"))?;
    let (near, far) = UnixStream::pair().context("making the console's socket")?;
    let mut from_socket = far
        .try_clone()
        .context("duplicating the console's socket")?;
    let mut to_socket = far;
    let closed = Arc::new(AtomicBool::new(false));
    let close = Arc::clone(&closed);
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("serial-in")
        .spawn(move || {
            let mut chunk = [0; 1024];
            loop {
                match port.read(&mut chunk) {
                    // a port whose other end is gone for now
                    Ok(0) => std::thread::sleep(READ_LIMIT),
                    Ok(count) => {
                        let Some(bytes) = chunk.get(..count) else {
                            break;
                        };
                        if to_socket.write_all(bytes).is_err() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                        if closed.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
        })
        .context("starting the port's reader")?;
    thread("serial-out")
        .spawn(move || {
            let mut chunk = [0; 1024];
            while let Ok(count @ 1..) = from_socket.read(&mut chunk) {
                let Some(bytes) = chunk.get(..count) else {
                    break;
                };
                if to_port.write_all(bytes).is_err() {
                    break;
                }
            }
            // the console is gone
            close.store(true, Ordering::SeqCst);
        })
        .context("starting the port's writer")?;
    Ok(near)
}
