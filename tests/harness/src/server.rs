//! The real server as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Child;

use crate::{Api, binaries, child};

/// The user every server of a test has.
pub const EMAIL: &str = "admin@example.com";
pub const PASSWORD: &str = "correct horse battery staple";

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running `ambidex-server serve`. Killed on drop; the data stays in its folder.
#[derive(Debug)]
pub struct Server {
    data_dir: PathBuf,
    log: PathBuf,
    options: Vec<String>,
    public: SocketAddr,
    internal: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// Starts a server with a fresh data folder inside `folder` on free ports of the loopback interface,
    /// waits until it answers and creates the user [`EMAIL`].
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// The same with more options for `serve`, for instance `--tls-cert`. Those that say where data is
    /// (`--database-url=…`, `--storage-url=…`) go to administration verbs too.
    pub async fn start_with(folder: &Path, options: &[&str]) -> Result<Self> {
        let server = Self::join_with(folder, options).await?;
        server.create_user(EMAIL, PASSWORD).await?;
        Ok(server)
    }

    /// The same where others than this machine find it: with a public listener at this address.
    pub async fn start_at(folder: &Path, public: SocketAddr) -> Result<Self> {
        let server = Self::join_at(folder, public, &[]).await?;
        server.create_user(EMAIL, PASSWORD).await?;
        Ok(server)
    }

    /// The same without a user: a further instance on a database that has one.
    pub async fn join_with(folder: &Path, options: &[&str]) -> Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::join_at(folder, any, options).await
    }

    async fn join_at(folder: &Path, public: SocketAddr, options: &[&str]) -> Result<Self> {
        let data_dir = folder.join("server");
        std::fs::create_dir_all(&data_dir)
            .with_context(|| format!("making {}", data_dir.display()))?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            log: folder.join("server.log"),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            data_dir,
            public,
            internal: any,
            child: None,
        };
        server.launch().await?;
        Ok(server)
    }

    /// The public listener.
    pub fn address(&self) -> SocketAddr {
        self.public
    }

    /// The internal listener.
    pub fn internal_address(&self) -> SocketAddr {
        self.internal
    }

    /// The base URL for clients on this machine.
    pub fn url(&self) -> String {
        let scheme = if self
            .options
            .iter()
            .any(|option| option.starts_with("--tls-cert"))
        {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.public)
    }

    /// The base URL of the internal listener.
    pub fn internal_url(&self) -> String {
        format!("http://{}", self.internal)
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// A management client, logged in as [`EMAIL`].
    pub async fn login(&self) -> Result<Api> {
        Api::login(&self.url(), EMAIL, PASSWORD).await
    }

    /// `ambidex-server user create`; returns the user's id.
    pub async fn create_user(&self, email: &str, password: &str) -> Result<String> {
        let password_file = self.data_dir.with_extension("password");
        std::fs::write(&password_file, password).context("writing the password file")?;
        let result = self
            .administer(&[
                "user",
                "create",
                "--email",
                email,
                "--password-file",
                &password_file.to_string_lossy(),
            ])
            .await;
        std::fs::remove_file(&password_file).context("removing the password file")?;
        Ok(result?.trim().to_owned())
    }

    /// Runs an administration verb on this server's data and returns what it prints.
    pub async fn administer(&self, arguments: &[&str]) -> Result<String> {
        let stores = self.options.iter().filter(|option| {
            option.starts_with("--database-url=") || option.starts_with("--storage-url=")
        });
        child::run(
            child::command(binaries::server()?)
                .args(arguments)
                .arg("--data-dir")
                .arg(&self.data_dir)
                .args(stores),
        )
        .await
    }

    /// SIGKILL: what was not on disk is lost.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("killing the server")?;
        }
        Ok(())
    }

    /// Starts it again (after [`Server::kill`]) on the same data and the same ports.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.launch().await
    }

    async fn launch(&mut self) -> Result<()> {
        let listen_file = self.data_dir.join("listen.json");
        if listen_file.exists() {
            std::fs::remove_file(&listen_file).context("removing the old listen.json")?;
        }
        let mut command = child::command(binaries::server()?);
        command
            .arg("serve")
            .args(["--listen", &self.public.to_string()])
            .args(["--internal-listen", &self.internal.to_string()])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(&self.options);
        let mut process = child::spawn_logged(&mut command, &self.log)?;
        let started = Instant::now();
        loop {
            if let Some(status) = process
                .try_wait()
                .context("asking for the server's state")?
            {
                bail!(
                    "the server ended at once with {status}: {}",
                    child::tail(&self.log, 2000)
                );
            }
            if let Some((public, internal)) = read_listen_file(&listen_file) {
                let reachable = tokio::net::TcpStream::connect(public).await.is_ok();
                if reachable {
                    self.public = public;
                    self.internal = internal;
                    self.child = Some(process);
                    return Ok(());
                }
            }
            if started.elapsed() > START_LIMIT {
                bail!(
                    "the server does not listen after {} s: {}",
                    START_LIMIT.as_secs(),
                    child::tail(&self.log, 2000)
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// `None` while the file is missing or half written.
fn read_listen_file(path: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let content: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let address = |key: &str| content.get(key)?.as_str()?.parse().ok();
    Some((address("public")?, address("internal")?))
}
