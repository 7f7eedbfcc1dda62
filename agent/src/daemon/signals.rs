//! Signals and process-wide notices: triggers, the wish to stop, and the service manager.

use std::{io, time::Duration};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What somebody wants of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGUSR1
    Update,
    /// SIGUSR2
    Inventory,
}

/// SIGUSR1 and SIGUSR2; one that comes during other work is kept until it is asked for.
pub(super) struct Triggers {
    update: Signal,
    inventory: Signal,
}

impl Triggers {
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            update: signal(SignalKind::user_defined1())?,
            inventory: signal(SignalKind::user_defined2())?,
        })
    }

    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.update.recv() => Wish::Update,
            _ = self.inventory.recv() => Wish::Inventory,
        }
    }
}

/// SIGTERM, SIGINT, SIGQUIT.
pub(crate) struct Stops {
    term: Signal,
    int: Signal,
    quit: Signal,
}

impl Stops {
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

/// Tells the service manager; without one this does nothing.
pub(super) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::debug!("the service manager cannot be told: {error}");
    }
}

/// Feeds the service manager's watchdog for as long as the runtime turns, if it has one.
pub(super) fn feed_watchdog() {
    let Some(limit) =
        sd_notify::watchdog_enabled().filter(|limit| *limit >= Duration::from_millis(2))
    else {
        return;
    };
    tokio::spawn(async move {
        loop {
            notify(NotifyState::Watchdog);
            tokio::time::sleep(limit / 2).await;
        }
    });
}
