//! A PostgreSQL server that lives as long as its value.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

/// From `postgres` to its word that it is ready; recovery after a crash included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Where Debian keeps the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";
const READY: &str = "database system is ready to accept connections";

/// There is no PostgreSQL on this machine.
#[derive(Debug)]
pub struct Missing;

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgreSQL is not installed (Debian: postgresql)")
    }
}

impl std::error::Error for Missing {}

/// How a server differs from the fast one that listens on a socket file only.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Survives kill -9 of its processes, as real ones do.
    pub durable: bool,
    /// Settings beside those, as `name=value`.
    pub settings: Vec<String>,
}

/// The server. Dropping it stops it and removes its files.
pub struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    user: Option<User>,
    options: Options,
    server: Option<Child>,
}

impl Cluster {
    /// Makes a cluster and starts its server.
    ///
    /// # Errors
    /// [`Missing`] when there is no PostgreSQL; anything else is a failure.
    pub fn start(options: Options) -> Result<Cluster> {
        let bin = programs().ok_or(Missing)?;
        let dir = tempfile::Builder::new()
            .prefix("ambidex-pg-")
            .tempdir_in("/tmp")
            .context("making the directory of the cluster")?;
        let mut cluster = Cluster {
            bin,
            dir,
            user: unprivileged()?,
            options,
            server: None,
        };
        if let Some(user) = &cluster.user {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(cluster.dir.path(), Some(uid), Some(gid))
                .context("handing the directory over")?;
        }
        cluster.initialise()?;
        cluster.restart()?;
        Ok(cluster)
    }

    fn initialise(&self) -> Result<()> {
        // Sorting by language shows where a text is compared without its bytes in mind.
        let by_language = ["--locale-provider=icu", "--icu-locale=en-US"];
        let mut last = String::new();
        for language in [&by_language[..], &[]] {
            let output = self
                .program("initdb")
                .args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"])
                .args(["--username=ambidex", "--no-sync", "--pgdata"])
                .arg(self.data())
                .args(language)
                .output()
                .context("starting initdb")?;
            if output.status.success() {
                return Ok(());
            }
            last = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        bail!("initdb: {last}")
    }

    /// Starts the server, which must not run.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data());
        command.arg("-k").arg(self.dir.path());
        let mut settings: Vec<&str> = vec![
            "listen_addresses=",
            "max_connections=400",
            "shared_buffers=64MB",
            "lc_messages=C",
        ];
        if !self.options.durable {
            settings.extend([
                "fsync=off",
                "full_page_writes=off",
                "synchronous_commit=off",
            ]);
        }
        settings.extend(self.options.settings.iter().map(String::as_str));
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        let mut server = command
            .stderr(Stdio::piped())
            .spawn()
            .context("starting postgres")?;
        let log = server
            .stderr
            .take()
            .context("invariant: standard error is piped")?;
        let (ready, waiting) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads to the end: a full pipe would stop the server. A FATAL line may mean one client that
            // came too early; only the end of the log means the end of the server.
            let mut reason = "postgres ended and said nothing".to_owned();
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if line.contains(READY) {
                    let _ = ready.send(Ok(()));
                } else if line.contains("FATAL") || line.contains("PANIC") {
                    reason = line;
                }
            }
            let _ = ready.send(Err(reason));
        });
        self.server = Some(server);
        match waiting.recv_timeout(START_TIMEOUT) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(line)) => bail!("postgres: {line}"),
            Err(_) => bail!("postgres did not become ready"),
        }
    }

    /// Adds settings for the next start.
    pub fn set(&mut self, settings: &[&str]) {
        let settings = settings.iter().map(|setting| (*setting).to_owned());
        self.options.settings.extend(settings);
    }

    /// Stops the server; connections are cut.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    /// Stops the server as a crash would: the next start recovers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn crash(&mut self) -> Result<()> {
        self.end(Signal::SIGQUIT)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let mut server = self.server.take().context("the server does not run")?;
        kill(Pid::from_raw(server.id().cast_signed()), signal).context("stopping postgres")?;
        server.wait().context("waiting for postgres")?;
        Ok(())
    }

    /// Sends a signal to the server's main process and leaves it running (`SIGSTOP`, `SIGCONT`).
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let server = self.server.as_ref().context("the server does not run")?;
        Ok(kill(Pid::from_raw(server.id().cast_signed()), signal)?)
    }

    /// `postgres://…` of the database that comes with the cluster.
    pub fn url(&self) -> String {
        let dir = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://ambidex@{dir}/postgres")
    }

    /// A directory that the server can read.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Hands a file in [`Cluster::dir`] over to the user of the server.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn own(&self, path: &Path) -> Result<()> {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some() {
            let _ = self.end(Signal::SIGQUIT);
        }
    }
}

/// The directory of the programs: of the newest version that Debian has, else from the PATH.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            let bin = path.join("bin");
            bin.join("initdb").is_file().then_some((version, bin))
        })
        .collect();
    versions.sort();
    if let Some((_, bin)) = versions.pop() {
        return Some(bin);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
}

/// The server refuses to run as root: who else then.
fn unprivileged() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
}
