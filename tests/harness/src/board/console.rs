//! The board's serial console: lines to wait for, and a root shell.
//!
//! A task reads the socket into a shared buffer for as long as its other end is there. The owner consumes the buffer
//! from a cursor, so a line is seen once and in order, and nothing is lost between two waits.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::watch;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// What the boot marker line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    /// The release that runs, for instance `v2`.
    pub version: String,
    /// The root device, for instance `/dev/vda3`.
    pub root: String,
}

/// The end of a shell command.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    pub code: i32,
    pub text: String,
}

/// The console of a running board.
#[derive(Debug)]
pub struct Console {
    write: OwnedWriteHalf,
    received: Arc<Mutex<Vec<u8>>>,
    /// Length of `received`; closed when the other end is gone.
    length: watch::Receiver<usize>,
    cursor: usize,
    commands: u32,
}

impl Console {
    /// Connects to the socket QEMU is about to open; everything received is also appended to `log`.
    pub async fn connect(socket: &Path, log: &Path) -> Result<Self> {
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > CONNECT_LIMIT => {
                    return Err(error).with_context(|| {
                        format!("connecting to the console {}", socket.display())
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        Self::over(stream, log)
    }

    /// The console at the other end of `stream`; everything received is also appended to `log`.
    pub fn over(stream: UnixStream, log: &Path) -> Result<Self> {
        let mut log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let (mut read, write) = stream.into_split();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (sender, length) = watch::channel(0);
        let shared = Arc::clone(&received);
        tokio::spawn(async move {
            let mut chunk = [0; 4096];
            // ends with the other end; dropping the sender tells the owner
            while let Ok(count @ 1..) = read.read(&mut chunk).await {
                let Some(bytes) = chunk.get(..count) else {
                    break;
                };
                let _ = log.write_all(bytes);
                let length = {
                    let mut received = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    received.extend_from_slice(bytes);
                    received.len()
                };
                if sender.send(length).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            write,
            received,
            length,
            cursor: 0,
            commands: 0,
        })
    }

    /// Waits for a whole line that contains `text` and returns it.
    pub async fn line_with(&mut self, text: &str, limit: Duration) -> Result<String> {
        self.wait(limit, text, |pending| {
            let found = find(pending, text.as_bytes())?;
            let start = pending
                .get(..found)?
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |at| at + 1);
            let end = found
                + pending
                    .get(found..)?
                    .iter()
                    .position(|&byte| byte == b'\n')?;
            let line = String::from_utf8_lossy(pending.get(start..end)?)
                .trim_end()
                .to_owned();
            Some((line, end + 1))
        })
        .await
    }

    /// Waits for the marker that ends a boot.
    pub async fn booted(&mut self, limit: Duration) -> Result<Booted> {
        let line = self.line_with("BOOTED ", limit).await?;
        let mut words = line
            .split("BOOTED ")
            .nth(1)
            .unwrap_or_default()
            .split_whitespace();
        let version = words
            .next()
            .context("the boot marker names no version")?
            .to_owned();
        let root = words
            .next()
            .and_then(|word| word.strip_prefix("root="))
            .context("the boot marker names no root")?;
        Ok(Booted {
            version,
            root: root.to_owned(),
        })
    }

    /// Waits until the shell answers. Characters sent before it reads are lost, so it is asked repeatedly;
    /// the marker is split so that the echo of the question does not count as an answer.
    pub async fn shell(&mut self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            self.send("echo SHELL''-READY").await?;
            if self
                .line_with("SHELL-READY", Duration::from_secs(3))
                .await
                .is_ok()
            {
                break;
            }
            if started.elapsed() > limit {
                bail!(
                    "the shell on the console does not answer; last output: {}",
                    self.tail()
                );
            }
        }
        // late answers to earlier questions may still come: they hold no newline-free marker of `run`
        self.send("stty -echo; PS1=; echo ECHO''-OFF").await?;
        self.line_with("ECHO-OFF", limit).await?;
        Ok(())
    }

    /// Runs one command line; [`Console::shell`] must have answered since the boot.
    pub async fn run(&mut self, command: &str, limit: Duration) -> Result<CommandOutput> {
        self.commands += 1;
        let (begin, end) = (
            format!("BEGIN-{}-", self.commands),
            format!("END-{}-", self.commands),
        );
        let split = |marker: &str| marker.replacen('-', "''-", 1);
        self.send(&format!(
            "echo {}; {command}; echo {}$?-",
            split(&begin),
            split(&end)
        ))
        .await?;
        let what = format!("the end of `{command}`");
        self.wait(limit, &what, |pending| {
            let start = find(pending, begin.as_bytes())? + begin.len();
            let rest = pending.get(start..)?;
            let stop = find(rest, end.as_bytes())?;
            let after = rest.get(stop + end.len()..)?;
            let digits = after.iter().position(|&byte| byte == b'-')?;
            let code = std::str::from_utf8(after.get(..digits)?)
                .ok()?
                .parse()
                .ok()?;
            let text = String::from_utf8_lossy(rest.get(..stop)?).replace('\r', "");
            let text = text.strip_prefix('\n').unwrap_or(&text).to_owned();
            Some((
                CommandOutput { code, text },
                start + stop + end.len() + digits + 1,
            ))
        })
        .await
    }

    /// Types a line.
    pub async fn send(&mut self, line: &str) -> Result<()> {
        self.write
            .write_all(format!("{line}\n").as_bytes())
            .await
            .context("writing to the console")
    }

    /// Asks `look` at what has not been consumed; its second value is how many bytes to consume.
    async fn wait<T>(
        &mut self,
        limit: Duration,
        what: &str,
        look: impl Fn(&[u8]) -> Option<(T, usize)>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            {
                self.length.mark_unchanged();
                let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((value, consumed)) =
                    look(received.get(self.cursor..).unwrap_or_default())
                {
                    self.cursor += consumed;
                    return Ok(value);
                }
            }
            let left = limit.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, self.length.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!(
                    "the console has ended while waiting for {what}; last output: {}",
                    self.tail()
                ),
                Err(_) => bail!(
                    "no {what} on the console after {} s; last output: {}",
                    limit.as_secs(),
                    self.tail()
                ),
            }
        }
    }

    fn tail(&self) -> String {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let start = received.len().saturating_sub(600);
        String::from_utf8_lossy(received.get(start..).unwrap_or_default()).into_owned()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len().max(1))
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_console_finds_lines_and_runs_commands() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("console");
        let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
        let guest = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream
                .write_all(b"noise\r\nBOOTED v7 root=/dev/vda3 up=1.0\r\n/ # ")
                .await
                .expect("written");
            let mut seen = Vec::new();
            while !seen.ends_with(b"$?-\n") {
                seen.push(stream.read_u8().await.expect("a byte"));
            }
            // an echoing terminal: the command line itself must not count
            stream.write_all(&seen).await.expect("written");
            stream
                .write_all(b"BEGIN-1-\r\none\r\ntwo\r\nEND-1-3-\r\n")
                .await
                .expect("written");
        });
        let mut console = Console::connect(&socket, &folder.path().join("log"))
            .await
            .expect("connected");
        let limit = Duration::from_secs(10);
        let booted = console.booted(limit).await.expect("booted");
        assert_eq!(
            booted,
            Booted {
                version: "v7".to_owned(),
                root: "/dev/vda3".to_owned()
            }
        );
        let output = console.run("false", limit).await.expect("an answer");
        assert_eq!((output.code, output.text.as_str()), (3, "one\ntwo\n"));
        guest.await.expect("the guest ends");
        let gone = console
            .line_with("never", limit)
            .await
            .expect_err("the socket is closed");
        assert!(gone.to_string().contains("has ended"), "{gone}");
    }
}
