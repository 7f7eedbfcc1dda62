//! Files of one session: at most one transfer at a time, as in the protocol.
//!
//! Owns: which message belongs to what, and the errors that go back. A transfer is a task (`get`) or a
//! thread that may wait for the disk (`put`); both end when the session drops its end of their queue.

mod claims;
mod counter;
mod digest;
mod get;
pub(crate) mod leftovers;
mod limits;
mod put;
mod unfinished;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use ambidex_wire::session::{Message, MessageRef, PROTO_FILE, Props, file as wire};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Shared;
use crate::inbox::Incoming;
use crate::outgoing::{Gone, Outgoing};

pub(crate) use claims::Claims;
pub(crate) use counter::Counters;

/// Removes unfinished files whose time to be continued is over; when that of the next one will be.
pub(crate) fn sweep(shared: &Shared) -> Option<Duration> {
    leftovers::sweep(
        &shared.settings.state,
        &shared.claims,
        leftovers::Sweep::Old,
    )
}

/// Waits until another file may have been left unfinished.
pub(crate) async fn left(shared: &Shared) {
    shared.claims.left().await;
}

/// A transfer whose end the user has heard of may take a moment to be over.
const OVER_WAIT: Duration = Duration::from_millis(250);

/// Why a file was not copied; what the user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FileError(pub(crate) String);

impl FileError {
    /// What was attempted on which path, and what came of it.
    fn at(doing: &str, path: &str, error: &dyn std::fmt::Display) -> FileError {
        FileError(format!("cannot {doing} '{path}': {error}"))
    }
}

/// A transfer that runs.
struct Transfer {
    queue: Queue,
    task: JoinHandle<()>,
}

/// What goes to it. Dropping its end here ends the transfer.
enum Queue {
    Get(watch::Sender<u64>),
    Put(mpsc::Sender<Incoming>),
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // the thread of an upload cannot be aborted; it sees that its queue is closed
        self.task.abort();
    }
}

pub(crate) struct Files {
    shared: Arc<Shared>,
    out: Outgoing,
    transfer: Option<Transfer>,
}

/// Where answers to a request go, and what they carry of it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    out: Outgoing,
    sid: String,
    typ: String,
    props: Props,
}

impl Request {
    fn of(message: &MessageRef<'_>, out: &Outgoing) -> Request {
        Request {
            out: out.clone(),
            sid: message.sid.to_owned(),
            typ: message.typ.to_owned(),
            // checked when it was read
            props: message.props().unwrap_or_default(),
        }
    }

    /// The error that answers it: with the properties of the request, as the reference does.
    fn failure(&self, error: &FileError) -> Message {
        let failure = wire::Failure {
            err: error.0.clone(),
            msgtype: Some(self.typ.clone()),
            msgid: None,
        };
        Message {
            props: self.props.clone(),
            ..failure.message(&self.sid)
        }
    }

    async fn refuse(&self, error: &FileError) -> Result<(), Gone> {
        self.out.send(&self.failure(error)).await
    }
}

impl Files {
    pub(crate) fn new(shared: &Arc<Shared>, out: Outgoing) -> Files {
        Files {
            shared: Arc::clone(shared),
            out,
            transfer: None,
        }
    }

    pub(crate) async fn take(&mut self, incoming: Incoming) -> Result<(), Gone> {
        // checked when it was read
        let Ok(message) = incoming.message() else {
            return Ok(());
        };
        match message.typ {
            wire::STAT => self.stat(&message).await,
            wire::GET | wire::PUT if self.is_busy().await => {
                let error = FileError("another file transfer is in progress".to_owned());
                Request::of(&message, &self.out).refuse(&error).await
            }
            wire::GET => self.get(&message).await,
            wire::PUT => self.put(&message).await,
            wire::CHUNK => {
                if let Some(Queue::Put(chunks)) = self.queue() {
                    // one that comes late, after an error, belongs to nothing any more
                    let _ = chunks.send(incoming);
                    return Ok(());
                }
                let error = FileError("no file is being received".to_owned());
                Request::of(&message, &self.out).refuse(&error).await
            }
            wire::ACK => {
                let offset = message.props().unwrap_or_default().offset();
                match (offset, self.queue()) {
                    (Some(offset), Some(Queue::Get(feedback))) => {
                        feedback.send_modify(|received| *received = offset.max(*received));
                        Ok(())
                    }
                    (None, _) => {
                        let error = FileError("missing offset property".to_owned());
                        Request::of(&message, &self.out).refuse(&error).await
                    }
                    // late
                    _ => Ok(()),
                }
            }
            wire::ERROR => {
                let failure = wire::Failure::decode(message.body).unwrap_or_default();
                log::info!("a file transfer was given up by the user: {}", failure.err);
                if let Some(Queue::Put(chunks)) = self.queue() {
                    // nothing of it is kept then
                    let _ = chunks.send(incoming);
                }
                self.transfer = None;
                Ok(())
            }
            other => {
                let error = FileError(format!("unknown message type: {other}"));
                Request::of(&message, &self.out).refuse(&error).await
            }
        }
    }

    fn queue(&self) -> Option<&Queue> {
        self.transfer.as_ref().map(|transfer| &transfer.queue)
    }

    async fn is_busy(&mut self) -> bool {
        if let Some(transfer) = &mut self.transfer
            && timeout(OVER_WAIT, &mut transfer.task).await.is_ok()
        {
            self.transfer = None;
        }
        self.transfer.is_some()
    }

    async fn stat(&self, message: &MessageRef<'_>) -> Result<(), Gone> {
        let request = Request::of(message, &self.out);
        let asked = wire::Path::decode(message.body).map_err(|error| FileError(error.to_string()));
        let shared = Arc::clone(&self.shared);
        let found = match asked {
            Ok(asked) => {
                blocking(move || get::stat(&shared.settings.file_transfer.limits, &asked.path))
                    .await
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(info) => self.out.send(&info.message(&request.sid)).await,
            Err(error) => request.refuse(&error).await,
        }
    }

    async fn get(&mut self, message: &MessageRef<'_>) -> Result<(), Gone> {
        let request = Request::of(message, &self.out);
        let asked = match wire::Path::decode(message.body) {
            Ok(asked) => asked,
            Err(error) => return request.refuse(&FileError(error.to_string())).await,
        };
        let (feedback, received) = watch::channel(0);
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            log::info!("a user downloads '{}'", asked.path);
            let mut download = get::Download::new(&shared, &request, received);
            if let Err(error) = download.run(&asked.path).await {
                log::info!("the download ends: {error}");
                let _ = request.refuse(&error).await;
            }
        });
        self.transfer = Some(Transfer {
            queue: Queue::Get(feedback),
            task,
        });
        Ok(())
    }

    async fn put(&mut self, message: &MessageRef<'_>) -> Result<(), Gone> {
        let request = Request::of(message, &self.out);
        let put = match wire::PutFile::decode(message.body) {
            Ok(put) => put,
            Err(error) => return request.refuse(&FileError(error.to_string())).await,
        };
        let (chunks, received) = mpsc::channel();
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            log::info!("a user uploads '{}'", put.path);
            if let Err(error) = put::receive(&shared, &request, &put, &received) {
                log::info!("the upload ends: {error}");
                let _ = request.out.send_blocking(&request.failure(&error));
            }
        });
        self.transfer = Some(Transfer {
            queue: Queue::Put(chunks),
            task,
        });
        Ok(())
    }
}

/// A message of the transfer protocol that answers `request`.
fn chunk_head(request: &Request, typ: &str) -> Message {
    Message::new(PROTO_FILE, typ, &request.sid)
}

/// Does what may wait for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(FileError(format!("this device has failed: {error}"))))
}
