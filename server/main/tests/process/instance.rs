//! A server process of a test, and a minimal HTTP client for it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_ambidex-server");
pub const EMAIL: &str = "admin@example.com";
pub const PASSWORD: &str = "a password of a test";
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs a verb to its end.
pub fn verb(data_dir: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The verb's standard output; it must succeed.
pub fn verb_ok(data_dir: &Path, arguments: &[&str]) -> String {
    let output = verb(data_dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

pub struct Instance {
    child: Child,
    pub data_dir: PathBuf,
    log: PathBuf,
    pub public: SocketAddr,
    pub internal: SocketAddr,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Instance {
    /// Starts `serve` on free ports and waits until it listens.
    pub fn start(dir: &Path, options: &[&str]) -> Instance {
        let data_dir = dir.join("data");
        let log = dir.join("log");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        // What a killed server left must not be taken for the new one's.
        let listen = data_dir.join("listen.json");
        let _ = std::fs::remove_file(&listen);
        let mut child = Command::new(BINARY)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--internal-listen",
                "127.0.0.1:0",
            ])
            .arg("--data-dir")
            .arg(&data_dir)
            .args(options)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let started = Instant::now();
        let text = loop {
            if let Ok(text) = std::fs::read_to_string(&listen) {
                break text;
            }
            let logged = || std::fs::read_to_string(&log).unwrap();
            assert!(
                child.try_wait().unwrap().is_none(),
                "ended at once: {}",
                logged()
            );
            assert!(
                started.elapsed() < START_LIMIT,
                "not listening: {}",
                logged()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let at: Value = serde_json::from_str(&text).unwrap();
        let address = |name: &str| at[name].as_str().unwrap().parse().unwrap();
        Instance {
            public: address("public"),
            internal: address("internal"),
            child,
            data_dir,
            log,
        }
    }

    /// With a user that can log in.
    pub fn start_with_user(dir: &Path) -> Instance {
        let instance = Instance::start(dir, &[]);
        verb_ok(
            &instance.data_dir,
            &["user", "create", "--email", EMAIL, "--password", PASSWORD],
        );
        instance
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn log_at(&self) -> PathBuf {
        self.log.clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of a server that was told to stop; returns the exit code.
    pub fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns the exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code()
    }

    pub fn login(&self, email: &str, password: &str) -> Answer {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{email}:{password}"));
        let path = "/api/management/v1/useradm/auth/login";
        http(self.public, "POST", path, &format!("Basic {basic}"), "").unwrap()
    }

    pub fn token(&self) -> String {
        let answer = self.login(EMAIL, PASSWORD);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    pub fn call(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        http(self.public, method, path, &format!("Bearer {token}"), body).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own. `None` when the server went away before it had answered.
pub fn http(
    to: SocketAddr,
    method: &str,
    path: &str,
    authorization: &str,
    body: &str,
) -> Option<Answer> {
    let head = format!("authorization: {authorization}\r\n");
    send(to, method, path, &head, body)
}

/// Asks again and again until there is something; `None` when there never is.
pub fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let found = ask();
        if found.is_some() || started.elapsed() > START_LIMIT {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Like [`http`], with header lines of the caller's choice, each ended by `\r\n`.
pub fn send(to: SocketAddr, method: &str, path: &str, head: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(to).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let announced: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    if body.len() < announced {
        return None;
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
