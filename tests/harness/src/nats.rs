//! A NATS server of its own for each test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Child;

use crate::{binaries, child, skip, wait_for};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running `nats-server` on a free port of the loopback interface. Killed on drop.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    folder: PathBuf,
    options: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Nats {
    /// Starts one; `None`, and the test counts as skipped, when `nats-server` is not installed. `options`
    /// are further ones for it, for instance `--user`.
    pub async fn start(folder: &Path, options: &[&str]) -> Result<Option<Nats>> {
        let Some(program) = binaries::find_tool("nats-server") else {
            skip("nats-server is not installed (Debian package nats-server)");
            return Ok(None);
        };
        let folder = folder.join("nats");
        std::fs::create_dir_all(&folder).context("making the folder of the NATS server")?;
        let mut nats = Nats {
            program,
            folder,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            port: 0,
            child: None,
        };
        nats.launch().await?;
        Ok(Some(nats))
    }

    /// `HOST:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `nats://HOST:PORT`
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("killing the NATS server")?;
        }
        Ok(())
    }

    /// Starts it again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.launch().await
    }

    async fn launch(&mut self) -> Result<()> {
        let log = self.folder.join("nats.log");
        // It chooses a free port itself and writes it into a file.
        let port = match self.port {
            0 => "-1".to_owned(),
            port => port.to_string(),
        };
        let mut command = child::command(&self.program);
        command
            .args(["--addr", "127.0.0.1", "--port", &port, "--ports_file_dir"])
            .arg(&self.folder)
            .args(&self.options);
        let mut process = child::spawn_logged(&mut command, &log)?;
        let folder = self.folder.clone();
        let id = process.id().context("the NATS server has ended at once")?;
        self.port = wait_for("the NATS server", START_LIMIT, async || {
            if let Some(status) = process.try_wait().context("asking for its state")? {
                bail!("it ended with {status}: {}", child::tail(&log, 2000));
            }
            let file = folder.join(format!("nats-server_{id}.ports"));
            let Some(port) = std::fs::read(file).ok().and_then(|text| listening(&text)) else {
                return Ok(None);
            };
            let open = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            Ok(open.is_ok().then_some(port))
        })
        .await?;
        self.child = Some(process);
        Ok(())
    }
}

/// `None` while the file is half written.
fn listening(text: &[u8]) -> Option<u16> {
    let content: serde_json::Value = serde_json::from_slice(text).ok()?;
    let url = content.get("nats")?.get(0)?.as_str()?;
    url.rsplit_once(':')?.1.parse().ok()
}
