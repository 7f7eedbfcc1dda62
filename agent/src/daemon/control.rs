//! The control socket: what people and programs at the device may see and wish.
//!
//! A stream socket beside the daemon's lock, in a directory that only root enters; who connects must be root or the
//! agent's own user. One request a line, one answer a line, both JSON objects:
//!
//! | request | answer |
//! |---|---|
//! | `{"command":"show"}` | `{"ok":true,"paused":false,"deployment":"…","held_before":"install","because":"consent","text":"…"}` |
//! | `continue`, `pause`, `abort` | the same, afterwards |
//! | `check-update`, `send-inventory` | the same |
//! | anything that cannot be done | `{"ok":false,"error":"…"}` |
//!
//! One connection at a time, each with a deadline: nobody at the device can wedge the daemon, and no more is held of
//! what a peer sends than one short line.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};

use super::signals::Wish;
use crate::deployment::{Gates, WishError};

/// One connection may take this long.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// No honest request is longer.
const REQUEST_BYTES_MAX: u64 = 4096;

/// Wishes that may wait while the daemon is busy; more of them say nothing new.
const WISHES_MAX: usize = 8;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    Show,
    Continue,
    Pause,
    Abort,
    CheckUpdate,
    SendInventory,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// There was nothing that the wish could be about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nothing: bool,
    #[serde(default)]
    pub paused: bool,
    /// The id of the deployment in work or at the first gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// `download`, `install`, `reboot` or `commit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_before: Option<String>,
    /// `consent`, `paused`, `window` or `clock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The deployment ends at its next gate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// Where the socket of the daemon on this state directory is.
#[must_use]
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("daemon/control.sock")
}

/// The daemon's end.
pub(super) struct Control {
    wishes: Receiver<Wish>,
}

impl Control {
    /// Begins to listen. Without a socket (a read-only state directory) the daemon works all the same. The caller holds
    /// the claim on the state directory: a socket that is there already is nobody's.
    pub fn start(state: &Path, gates: &Gates) -> Self {
        let (sender, wishes) = mpsc::channel(WISHES_MAX);
        let path = socket_path(state);
        match listen(&path) {
            Ok(listener) => {
                tokio::spawn(serve(listener, path, gates.clone(), sender));
            }
            Err(error) => log::warn!(
                "'{}' cannot be listened on: {error}; deployments cannot be held or continued by hand",
                path.display()
            ),
        }
        Self { wishes }
    }

    /// The next wish. Never returns without a socket.
    pub async fn next(&mut self) -> Wish {
        match self.wishes.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, path: PathBuf, gates: Gates, wishes: Sender<Wish>) {
    let owner = std::fs::metadata(&path).map_or(0, |meta| meta.uid());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("the control socket: {error}");
                // out of file descriptors, mostly: not again at once
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        match stream.peer_cred().map(|peer| peer.uid()) {
            Ok(uid) if uid == 0 || uid == owner => {
                let served = timeout(CONNECTION_LIMIT, converse(stream, &gates, &wishes));
                if let Ok(Err(error)) = served.await {
                    log::debug!("the control socket: {error}");
                }
            }
            Ok(uid) => log::warn!("the control socket is not for the user {uid}"),
            Err(error) => log::warn!("the control socket: {error}"),
        }
    }
}

async fn converse(
    mut stream: UnixStream,
    gates: &Gates,
    wishes: &Sender<Wish>,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let count = (&mut reader)
            .take(REQUEST_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await?;
        if count == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => perform(request, gates, wishes),
            Err(error) => refusal(format!("the request is not understood: {error}")),
        };
        let mut text = serde_json::to_vec(&answer).expect("invariant: answers are always JSON");
        text.push(b'\n');
        writer.write_all(&text).await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
    }
}

fn perform(request: Request, gates: &Gates, wishes: &Sender<Wish>) -> Answer {
    let done = match request {
        Request::Show => Ok(()),
        Request::Continue => gates.go_on(),
        Request::Pause => gates.pause(),
        Request::Abort => gates.abort(),
        Request::CheckUpdate => {
            // a full queue holds the same wish already
            let _ = wishes.try_send(Wish::Update);
            Ok(())
        }
        Request::SendInventory => {
            let _ = wishes.try_send(Wish::Inventory);
            Ok(())
        }
    };
    if let Err(error) = &done {
        return Answer {
            nothing: matches!(error, WishError::Nothing | WishError::NotHeld),
            ..refusal(error.to_string())
        };
    }
    if request != Request::Show {
        log::info!("asked at the device: {request:?}");
    }
    let view = gates.view();
    Answer {
        ok: true,
        error: None,
        nothing: false,
        paused: view.paused,
        deployment: view.deployment_id,
        held_before: view.held.map(|(gate, _)| gate.as_str().to_owned()),
        because: view.held.map(|(_, held)| held.as_str().to_owned()),
        text: view.held.map(|(_, held)| held.to_string()),
        ending: view.unwanted,
    }
}

fn refusal(error: String) -> Answer {
    Answer {
        error: Some(error),
        ..Answer::default()
    }
}
