//! The daemon and the verbs as processes.

use std::{
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Device;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ambidex-agent");

pub fn command(device: &Device, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg("--conf-dir")
        .arg(device.path("conf"))
        .arg("--data-dir")
        .arg(device.path("data"))
        .arg("--state-dir")
        .arg(device.path("state"))
        .args(words)
        .env_remove("JOURNAL_STREAM")
        .env_remove("NOTIFY_SOCKET");
    command
}

pub fn verb(device: &Device, words: &[&str]) -> Output {
    command(device, words).output().unwrap()
}

/// A running daemon; killed when the test ends.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(device: &Device) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(device.path("daemon.log"))
            .unwrap();
        Self(
            command(device, &["daemon", "-l", "debug"])
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        )
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Stops it with SIGTERM; it must end in good order within a few seconds.
    pub async fn stop(mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < limit, "the daemon does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn log_of(device: &Device) -> String {
    std::fs::read_to_string(device.path("daemon.log")).unwrap_or_default()
}

pub fn attribute(body: &Value, name: &str) -> Option<Value> {
    body.as_array()
        .unwrap()
        .iter()
        .find(|a| a["name"] == name)
        .map(|a| a["value"].clone())
}
