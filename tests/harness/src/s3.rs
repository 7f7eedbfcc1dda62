//! An S3 server of its own for each test: nanio, a small one that verifies every signature.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Child;

use crate::{binaries, child, skip, wait_for};

/// The bucket that every server of a test has.
pub const BUCKET: &str = "artifacts";
const ACCESS_KEY: &str = "ambidex-test-key";
const SECRET_KEY: &str = "ambidex-test-secret";
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between choosing a free port and the server's use of it somebody else may take it.
const START_ATTEMPTS: usize = 5;

/// A running S3 server on a free port of the loopback interface, with the empty bucket [`BUCKET`].
/// Killed on drop.
#[derive(Debug)]
pub struct S3 {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl S3 {
    /// Starts one; `None`, and the test counts as skipped, when it is not installed.
    pub async fn start(folder: &Path) -> Result<Option<S3>> {
        let Some(program) = program()? else {
            skip("no S3 server: `cargo xtask test` installs it (Python package nanio)");
            return Ok(None);
        };
        let folder = folder.join("s3");
        std::fs::create_dir_all(folder.join("data").join(BUCKET)).context("making the bucket")?;
        let mut s3 = S3 {
            program,
            folder,
            port: 0,
            child: None,
        };
        for attempt in 1.. {
            s3.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|listener| listener.local_addr())
                .context("choosing a port")?
                .port();
            match s3.launch().await {
                Ok(()) => break,
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Some(s3))
    }

    /// `http://HOST:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// For `--storage-url`, credentials included by way of a file.
    pub fn url(&self) -> Result<String> {
        Ok(format!(
            "s3://{BUCKET}/some/prefix?endpoint={}&credentials={}",
            self.endpoint(),
            self.credentials(SECRET_KEY)?.display()
        ))
    }

    /// A credentials file with this secret key.
    pub fn credentials(&self, secret: &str) -> Result<PathBuf> {
        let file = self.folder.join(format!("credentials-{secret}"));
        let text = format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n"
        );
        std::fs::write(&file, text).context("writing the credentials file")?;
        Ok(file)
    }

    /// Where the objects of the bucket lie as plain files.
    pub fn bucket_dir(&self) -> PathBuf {
        self.folder.join("data").join(BUCKET)
    }

    /// Multipart uploads that were begun and neither completed nor aborted.
    pub fn unfinished(&self) -> usize {
        let folder = self.folder.join("data/.nanio/multipart");
        std::fs::read_dir(folder).map_or(0, |entries| entries.flatten().count())
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("killing the S3 server")?;
        }
        Ok(())
    }

    /// Starts it again on the same port and data.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.launch().await
    }

    async fn launch(&mut self) -> Result<()> {
        let log = self.folder.join("s3.log");
        let mut command = child::command(&self.program);
        command
            .args(["serve", "--host", "127.0.0.1", "--log-level", "warning"])
            .args(["--no-access-log", "--port", &self.port.to_string()])
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .env("NANIO_ACCESS_KEY", ACCESS_KEY)
            .env("NANIO_SECRET_KEY", SECRET_KEY);
        let mut process = child::spawn_logged(&mut command, &log)?;
        let port = self.port;
        wait_for("the S3 server", START_LIMIT, async || {
            if let Some(status) = process.try_wait().context("asking for its state")? {
                bail!("it ended with {status}: {}", child::tail(&log, 2000));
            }
            let open = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            Ok(open.is_ok().then_some(()))
        })
        .await?;
        self.child = Some(process);
        Ok(())
    }
}

/// `AMBIDEX_S3_BIN`, else where `cargo xtask test` has put it, else on the PATH.
fn program() -> Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os("AMBIDEX_S3_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!(
                "AMBIDEX_S3_BIN names {}, which is not a file",
                path.display()
            );
        }
        return Ok(Some(path));
    }
    let installed = binaries::target_dir()?.join("tools/nanio/bin/nanio");
    if installed.is_file() {
        return Ok(Some(installed));
    }
    Ok(binaries::find_tool("nanio"))
}
