//! What users ask through remote access, and remote access itself as the daemon sees it.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::timeout};

use super::signals::Wish;
use crate::{api::Link, config::Config, deployment::Stop};

/// How long remote sessions may take to end when the daemon stops.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Wishes that may wait while the daemon is busy; more of them say nothing new.
#[cfg(feature = "remote-terminal")]
const WISHES_MAX: usize = 8;

/// Remote access, if it is switched on.
pub(super) struct RemoteAccess {
    #[cfg(feature = "remote-terminal")]
    wishes: tokio::sync::mpsc::Receiver<ambidex_connect::Wish>,
    task: Option<JoinHandle<()>>,
}

impl RemoteAccess {
    /// Starts the task that keeps it connected.
    #[cfg(feature = "remote-terminal")]
    pub fn start(config: &Arc<Config>, link: &Link, stop: &Stop) -> Self {
        let (sender, wishes) = tokio::sync::mpsc::channel(WISHES_MAX);
        let task = config.remote.clone().map(|settings| {
            if let Err(error) = settings.terminal.account()
                && settings.terminal.enabled
            {
                log::warn!("remote access offers no terminal: {error}");
            }
            let remote = ambidex_connect::Remote::new(settings, sender.clone());
            tokio::spawn(crate::remote::run(
                remote,
                link.clone(),
                sender,
                stop.clone(),
            ))
        });
        Self { wishes, task }
    }

    /// Nothing: this build has no remote access.
    #[cfg(not(feature = "remote-terminal"))]
    pub fn start(_: &Arc<Config>, _: &Link, _: &Stop) -> Self {
        Self { task: None }
    }

    /// The next wish of a user. Never returns without remote access.
    #[cfg(feature = "remote-terminal")]
    pub async fn next(&mut self) -> Wish {
        match self.wishes.recv().await {
            Some(ambidex_connect::Wish::CheckUpdate) => Wish::Update,
            Some(ambidex_connect::Wish::SendInventory) => Wish::Inventory,
            None => std::future::pending().await,
        }
    }

    #[cfg(not(feature = "remote-terminal"))]
    pub async fn next(&mut self) -> Wish {
        std::future::pending().await
    }

    /// Waits until every session has ended; a stop must have been requested.
    pub async fn ended(&mut self) {
        if let Some(task) = self.task.take()
            && timeout(END_LIMIT, task).await.is_err()
        {
            log::warn!("remote sessions did not end in time");
        }
    }
}
