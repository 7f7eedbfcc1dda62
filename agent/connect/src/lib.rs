//! The device's end of remote sessions: shells, files, port forwards and commands over one websocket.
//!
//! [`Remote`] is what outlives a connection: the settings, the byte counters, the way to the daemon.
//! [`Remote::serve`] speaks the session protocol (`ambidex_wire::session`) over a stream that has become a
//! websocket already; who connects, with which token and when again, is the caller's ([`reconnect`] has the
//! waits). Everything that touches the operating system goes through `ambidex-platform`.
//!
//! Concurrency, from the outside in. A connection is one task with two loops, which never wait for each
//! other: one reads and hands every message to its session's queue without waiting, the other writes.
//! Every session, every shell, every forwarded connection and every transfer is a task of its own, so one
//! that is stuck holds up nobody else. What waits in the queues of a session is counted and bounded. When
//! the connection ends, all of them end: shells with everything they started, transfers with their
//! unfinished file.
//!
//! What this crate never does: open a network connection other than those a user asks to forward, start
//! a shell as a user who is not configured, let a file appear under its name before it is complete.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests fail loudly"))]

mod check;
mod connection;
mod files;
mod forward;
pub mod handshake;
mod inbox;
mod outgoing;
pub mod reconnect;
mod router;
mod session;
pub mod settings;
mod shell;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub use check::problems;
pub use connection::End;
pub use settings::Settings;

/// Largest message that this device reads, in bytes, announced to the server. A window of twenty of them is
/// what the queues of a session hold.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What a user asks of the update daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Ask the server for a deployment now.
    CheckUpdate,
    /// Send the inventory now.
    SendInventory,
}

/// Remote access to this device; cheap to clone.
#[derive(Debug, Clone)]
pub struct Remote(Arc<Shared>);

/// What all sessions of all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    settings: Settings,
    wishes: mpsc::Sender<Wish>,
    counters: files::Counters,
    claims: files::Claims,
}

impl Remote {
    /// Remote access as `settings` allow it; commands of users go to `wishes`.
    #[must_use]
    pub fn new(settings: Settings, wishes: mpsc::Sender<Wish>) -> Remote {
        let counters = files::Counters::new(&settings.file_transfer.limits);
        Remote(Arc::new(Shared {
            settings,
            wishes,
            counters,
            claims: files::Claims::default(),
        }))
    }

    /// What it may do.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Removes the unfinished files that a power cut or a kill has left, and ends what has outlived its shell.
    /// Once, before the first connection.
    pub fn clean_up(&self) {
        shell::remains::end(&self.0.settings.state);
        files::leftovers::remove(&self.0.settings.state);
    }

    /// Removes unfinished files that waited in vain to be continued. How long until there is another one, unless
    /// one is left meanwhile ([`Remote::left`]).
    pub fn sweep(&self) -> Option<Duration> {
        files::sweep(&self.0)
    }

    /// Waits until another file may have been left unfinished.
    pub async fn left(&self) {
        files::left(&self.0).await;
    }

    /// Serves one connection until it ends, or until `leave` gives a reason to leave. Afterwards no session
    /// of it is left.
    pub async fn serve<S>(&self, stream: S, leave: impl Future<Output = String>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        connection::serve(&self.0, stream, leave).await
    }
}
