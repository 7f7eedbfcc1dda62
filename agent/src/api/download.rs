//! The reading end of a download that survives broken connections.
//!
//! A task on the runtime (`transfer`) fetches and hands pieces over a bounded queue to a blocking thread that
//! reads them through [`std::io::Read`].
//!
//! Concurrency: `Shared` is the only state both sides touch. The task waits while the queue holds
//! more than its limit, the reader waits while it is empty. Dropping the [`Download`] or calling
//! [`DownloadHandle::cancel`] ends the task at its next await; the end of the task, however it
//! happens, wakes the reader (`Ending`).
//!
//! Source: reference agent, section 2 "Download", weakness W1 cured.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufRead, Read},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Link, LinkError, LinkErrorKind, transfer::Transfer};

/// Bytes in the queue at which the network has to wait. The reader may hold as much again.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// How an expired link is replaced: the same deployment is asked for again.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub deployment_id: String,
    /// What the device says it provides, as for the poll that gave the first link.
    pub provides: BTreeMap<String, String>,
}

/// Where a download stands: what is there already, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Bytes that are there.
    pub offset: u64,
    /// Bytes of the whole.
    pub total: u64,
    /// The strong validator of the file that they are from.
    pub etag: Option<String>,
}

/// How a download begins, once a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// At the position it was given: what comes is the rest.
    Rest,
    /// At its first byte, with this at hand for taking it up later. `None`: the server did not say how long it is.
    Whole(Option<Position>),
}

/// The reading end. See the module's text.
pub struct Download {
    shared: Arc<Shared>,
    /// Taken from the queue, not yet read.
    taken: VecDeque<Bytes>,
}

/// Watches and cancels a download from elsewhere.
#[derive(Clone)]
pub struct DownloadHandle(Arc<Shared>);

pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// For the reader: something was put into the queue, or the end has come.
    filled: Condvar,
    /// For the task: the queue was emptied.
    emptied: Notify,
    /// For the task: nobody wants the rest any more.
    pub stopped: Notify,
    pub received: AtomicU64,
    /// Size of the whole, 0 while unknown.
    pub total: AtomicU64,
}

#[derive(Default)]
struct Queue {
    beginning: Option<Beginning>,
    pieces: VecDeque<Bytes>,
    bytes: usize,
    end: Option<Result<(), LinkError>>,
    cancelled: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // plain moves inside the lock: a poisoned queue is still whole
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the reader how it begins.
    pub fn begin(&self, beginning: Beginning) {
        self.queue().beginning.get_or_insert(beginning);
        self.filled.notify_all();
    }

    pub async fn hand_over(&self, piece: Bytes) {
        let mut full = {
            let mut queue = self.queue();
            queue.bytes += piece.len();
            queue.pieces.push_back(piece);
            queue.bytes >= QUEUE_BYTES_MAX
        };
        self.filled.notify_one();
        while full {
            self.emptied.notified().await;
            full = self.queue().bytes >= QUEUE_BYTES_MAX;
        }
    }

    fn cancel(&self) {
        let mut queue = self.queue();
        queue.cancelled = true;
        queue.end.get_or_insert_with(|| {
            Err(LinkError::new(
                LinkErrorKind::Cancelled,
                "the download was cancelled",
            ))
        });
        drop(queue);
        self.filled.notify_all();
        self.stopped.notify_one();
    }
}

impl Download {
    pub(super) fn start(
        link: Link,
        uri: String,
        renewal: Option<Renewal>,
        position: Option<Position>,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Notify::new(),
            stopped: Notify::new(),
            received: AtomicU64::new(0),
            total: AtomicU64::new(0),
        });
        let ending = Ending(Arc::clone(&shared));
        let transfer = Transfer::new(Arc::clone(&shared), link, uri, renewal, position);
        tokio::spawn(transfer.run(ending));
        Self {
            shared,
            taken: VecDeque::new(),
        }
    }

    /// A handle for progress and cancellation.
    #[must_use]
    pub fn handle(&self) -> DownloadHandle {
        DownloadHandle(Arc::clone(&self.shared))
    }

    /// Waits until a server has answered; blocks. Nothing is lost by not asking.
    ///
    /// # Errors
    /// Why there is no download.
    pub fn beginning(&mut self) -> io::Result<Beginning> {
        let mut queue = self.shared.queue();
        loop {
            if queue.cancelled {
                return Err(cancelled());
            }
            if let Some(beginning) = &queue.beginning {
                return Ok(beginning.clone());
            }
            if let Some(Err(error)) = &queue.end {
                return Err(io::Error::other(error.clone()));
            }
            queue = self
                .shared
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for bytes and takes all that are there.
    fn refill(&mut self) -> io::Result<()> {
        let mut queue = self.shared.queue();
        loop {
            if queue.cancelled {
                // what is queued is of no use to anybody
                return Err(cancelled());
            }
            if !queue.pieces.is_empty() {
                std::mem::swap(&mut queue.pieces, &mut self.taken);
                queue.bytes = 0;
                drop(queue);
                self.shared.emptied.notify_one();
                return Ok(());
            }
            match &queue.end {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => return Err(io::Error::other(error.clone())),
                None => {}
            }
            queue = self
                .shared
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn cancelled() -> io::Error {
    io::Error::other(LinkError::new(
        LinkErrorKind::Cancelled,
        "the download was cancelled",
    ))
}

impl BufRead for Download {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken.is_empty() {
            self.refill()?;
        }
        Ok(self.taken.front().map_or(&[], |piece| piece.as_ref()))
    }

    fn consume(&mut self, count: usize) {
        if let Some(piece) = self.taken.front_mut() {
            // split_to would keep the piece; advancing past the end is the caller's bug
            let _ = piece.split_to(count.min(piece.len()));
            if piece.is_empty() {
                self.taken.pop_front();
            }
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.cancel();
    }
}

impl DownloadHandle {
    /// Ends the download; the reader gets an error of kind [`LinkErrorKind::Cancelled`].
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Bytes received so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Bytes of the whole, once the server has said so.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        Some(self.0.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }
}

/// Wakes the reader when the task is gone, even by a panic or because the runtime was shut down.
pub(super) struct Ending(Arc<Shared>);

impl Ending {
    pub fn with(&self, result: Result<(), LinkError>) {
        self.0.queue().end.get_or_insert(result);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.queue().end.get_or_insert_with(|| {
            Err(LinkError::transient(
                "the download was given up because the agent stops",
            ))
        });
        self.0.filled.notify_all();
    }
}
