//! An artifact on its way from a stream into its handler, in two parts: header, then payload.
//!
//! Between the two the runner makes durable what the header says. The stream is read on one blocking thread, which
//! waits there for permission; dropping the permission ends it. Whoever holds a [`Fetching`] and does not stream it
//! to its end calls [`Fetching::end`], so that the thread is gone before anything else touches the handler's tree.

use std::{
    collections::BTreeMap,
    future::Future,
    io::Read,
    sync::{Arc, Mutex, mpsc},
};

use ambidex_install::{
    ArtifactFacts, CancelFlag, FetchError, FetchOptions, Fetched, Handler, InstallContext,
    Progress, fetch,
};
use ambidex_machine::Facts;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{handling, stop::Stop};
use crate::config::Config;

/// Progress is logged at every such part of a payload file.
const PROGRESS_PARTS: u64 = 10;

/// See the module's text.
pub struct Fetching {
    header: oneshot::Receiver<Facts>,
    permission: Option<mpsc::SyncSender<()>>,
    task: JoinHandle<Result<Fetched, FetchError>>,
    cancel: CancelFlag,
    cancel_source: Box<dyn Fn() + Send>,
}

/// What the first part led to.
pub enum Opened {
    Header(Box<Facts>),
    Failed(String),
    Stopped,
    Aborted,
}

/// What the second part led to.
pub enum Streamed {
    Done {
        handler: Option<Box<Handler>>,
        payload_bytes: u64,
    },
    Failed(String),
    Stopped,
    Aborted,
}

impl Fetching {
    /// Starts reading. `cancel_source` ends a read that hangs.
    pub fn start<R: Read + Send + 'static>(
        input: R,
        cancel_source: Box<dyn Fn() + Send>,
        context: InstallContext,
        provides: BTreeMap<String, String>,
        config: &Config,
    ) -> Self {
        let (header_sender, header) = oneshot::channel();
        let (permission, permitted) = mpsc::sync_channel(1);
        let cancel = CancelFlag::new();
        let hook = move |facts: &ArtifactFacts| {
            // when nobody waits any more, the permission will be missing, too
            let _ = header_sender.send(to_facts(facts));
            permitted
                .recv()
                .map_err(|_| "the download was given up".to_owned())
        };
        let mut options = FetchOptions::new(handling::verification(config));
        options.provides = provides;
        options.progress = Arc::new(LoggedProgress::default());
        options.cancel = cancel.clone();
        options.on_header = Some(Box::new(hook));
        let task = tokio::spawn(async move { fetch(input, &context, options).await });
        Self {
            header,
            permission: Some(permission),
            task,
            cancel,
            cancel_source,
        }
    }

    /// Waits for the verified header. An artifact without payload is read to its end here. `aborted` returns when nobody
    /// wants the deployment any more.
    pub async fn open(&mut self, stop: &Stop, aborted: impl Future<Output = ()>) -> Opened {
        let given_up = tokio::select! {
            header = &mut self.header => Ok(header.ok()),
            () = stop.requested() => Err(Opened::Stopped),
            () = aborted => Err(Opened::Aborted),
        };
        let facts = match given_up {
            Ok(facts) => facts,
            Err(given_up) => {
                self.give_up().await;
                return given_up;
            }
        };
        match facts {
            Some(facts) if facts.payload_type.is_some() => Opened::Header(Box::new(facts)),
            Some(facts) => {
                self.permit();
                match outcome((&mut self.task).await) {
                    Ok(_) => Opened::Header(Box::new(facts)),
                    Err(reason) => Opened::Failed(reason),
                }
            }
            // The thread ended before the header was verified.
            None => match outcome((&mut self.task).await) {
                Ok(_) => Opened::Failed("the artifact has no header".into()),
                Err(reason) => Opened::Failed(reason),
            },
        }
    }

    /// Streams the payload. `aborted` as for [`Self::open`].
    pub async fn stream(mut self, stop: &Stop, aborted: impl Future<Output = ()>) -> Streamed {
        self.permit();
        let given_up = tokio::select! {
            result = &mut self.task => {
                return match outcome(result) {
                    Ok(fetched) => Streamed::Done {
                        handler: fetched.handler.map(Box::new),
                        payload_bytes: fetched.payload_bytes,
                    },
                    Err(reason) => Streamed::Failed(reason),
                };
            }
            () = stop.requested() => Streamed::Stopped,
            () = aborted => Streamed::Aborted,
        };
        self.end().await;
        given_up
    }

    /// Gives up and waits until nothing is written any more.
    pub async fn end(mut self) {
        self.give_up().await;
    }

    async fn give_up(&mut self) {
        self.cancel.cancel();
        (self.cancel_source)();
        self.permission = None;
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }

    fn permit(&mut self) {
        if let Some(permission) = self.permission.take() {
            // a closed channel: the thread has ended by itself
            let _ = permission.try_send(());
        }
    }
}

fn outcome(
    result: Result<Result<Fetched, FetchError>, tokio::task::JoinError>,
) -> Result<Fetched, String> {
    match result {
        Ok(fetched) => fetched.map_err(|error| error.to_string()),
        Err(error) => Err(format!("the installation thread failed: {error}")),
    }
}

fn to_facts(facts: &ArtifactFacts) -> Facts {
    Facts {
        artifact_name: facts.name.clone(),
        artifact_group: facts.group.clone(),
        payload_type: facts.payload_type.clone(),
        provides: Some(facts.provides.clone()),
        clears: facts.clears.clone(),
    }
}

/// A line in the log at every tenth of a payload file.
#[derive(Default)]
struct LoggedProgress(Mutex<(String, u64)>);

impl Progress for LoggedProgress {
    fn payload(&self, name: &str, done: u64, size: u64) {
        let part = done
            .saturating_mul(PROGRESS_PARTS)
            .checked_div(size)
            .unwrap_or(PROGRESS_PARTS);
        let mut last = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.0 != name {
            *last = (name.to_owned(), 0);
        }
        if part > last.1 {
            last.1 = part;
            log::info!(
                "{name}: {} % of {size} bytes",
                part.saturating_mul(100) / PROGRESS_PARTS
            );
        }
    }
}
