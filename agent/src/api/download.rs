//! A download that survives broken connections.
//!
//! A task on the runtime fetches and hands pieces over a bounded queue to a blocking thread that
//! reads them through [`std::io::Read`]. What was received is never fetched again: a broken transfer
//! is taken up with `Range` (and `If-Range` when the server gave a strong `ETag`), and every answer
//! must fit exactly. An expired link is replaced through a [`Renewal`].
//!
//! Concurrency: `Shared` is the only state both sides touch. The task waits while the queue holds
//! more than its limit, the reader waits while it is empty. Dropping the [`Download`] or calling
//! [`DownloadHandle::cancel`] ends the task at its next await; the end of the task, however it
//! happens, wakes the reader (`Ending`).
//!
//! Source: reference agent, section 2 "Download", weaknesses W1 and W3 cured.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufRead, Read},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Client, Response, StatusCode, header};
use tokio::{sync::Notify, time::timeout};

use super::{Link, LinkError, LinkErrorKind, failure};
use crate::backoff::jittered;

/// Bytes in the queue at which the network has to wait. The reader may hold as much again.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// How an expired link is replaced: the same deployment is asked for again.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub deployment_id: String,
    /// What the device says it provides, as for the poll that gave the first link.
    pub provides: BTreeMap<String, String>,
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

struct Shared {
    queue: Mutex<Queue>,
    /// For the reader: something was put into the queue, or the end has come.
    filled: Condvar,
    /// For the task: the queue was emptied.
    emptied: Notify,
    /// For the task: nobody wants the rest any more.
    stopped: Notify,
    received: AtomicU64,
    /// Size of the whole, 0 while unknown.
    total: AtomicU64,
}

#[derive(Default)]
struct Queue {
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
    pub(super) fn start(link: Link, uri: String, renewal: Option<Renewal>) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Notify::new(),
            stopped: Notify::new(),
            received: AtomicU64::new(0),
            total: AtomicU64::new(0),
        });
        let ending = Ending(Arc::clone(&shared));
        let transfer = Transfer {
            shared: Arc::clone(&shared),
            link,
            uri,
            renewal,
            offset: 0,
            total: None,
            etag: None,
            retries: 0,
        };
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
struct Ending(Arc<Shared>);

impl Ending {
    fn with(&self, result: Result<(), LinkError>) {
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

struct Transfer {
    shared: Arc<Shared>,
    link: Link,
    uri: String,
    renewal: Option<Renewal>,
    /// Bytes handed over so far.
    offset: u64,
    total: Option<u64>,
    /// Strong validator of the first answer.
    etag: Option<header::HeaderValue>,
    retries: u32,
}

/// How one connection ended.
enum Broken {
    /// Worth another try.
    Again(String),
    /// The link is not valid any more.
    Expired(String),
    Fatal(LinkError),
}

impl Transfer {
    async fn run(mut self, ending: Ending) {
        let shared = Arc::clone(&self.shared);
        let result = tokio::select! {
            result = self.fetch() => result,
            () = shared.stopped.notified() => Err(LinkError::new(LinkErrorKind::Cancelled, "the download was cancelled")),
        };
        ending.with(result);
    }

    async fn fetch(&mut self) -> Result<(), LinkError> {
        let client = self.link.client()?;
        loop {
            let reason = match self.connection(&client).await {
                Ok(()) => return Ok(()),
                Err(Broken::Fatal(error)) => return Err(error),
                Err(Broken::Again(reason)) => reason,
                Err(Broken::Expired(reason)) => {
                    if self.renewal.is_none() {
                        return Err(LinkError::new(LinkErrorKind::Gone, reason));
                    }
                    self.count(&reason)?;
                    match self.renew().await {
                        Ok(()) => continue,
                        Err(error) if matches!(error.kind(), LinkErrorKind::Transient { .. }) => {
                            error.to_string()
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            self.count(&reason)?;
            let wait = jittered(self.link.config().http.download_retry_interval);
            log::warn!(
                "{reason}; trying again from byte {} in {:.0?} (try {} of {})",
                self.offset,
                wait,
                self.retries,
                self.link.config().http.download_retry_count
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts one more try of the whole download.
    fn count(&mut self, reason: &str) -> Result<(), LinkError> {
        let limit = self.link.config().http.download_retry_count;
        if self.retries >= limit {
            return Err(LinkError::transient(format!(
                "the download is given up after {limit} tries, at byte {}: {reason}",
                self.offset
            )));
        }
        self.retries += 1;
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), LinkError> {
        let Some(renewal) = &self.renewal else {
            return Ok(());
        };
        log::info!("the download link is not valid any more; asking for a new one");
        match self.link.next_deployment(&renewal.provides).await? {
            Some(instructions) if instructions.id == renewal.deployment_id => {
                self.uri = instructions.artifact.source.uri;
                Ok(())
            }
            Some(_) | None => Err(LinkError::new(
                LinkErrorKind::Gone,
                "the download link has expired and the server does not offer this deployment any more",
            )),
        }
    }

    /// One connection, until it breaks or everything is there.
    async fn connection(&mut self, client: &Client) -> Result<(), Broken> {
        let idle = self.link.config().http.download_idle_timeout;
        let response = timeout(idle, self.request(client).send())
            .await
            .map_err(|_| Broken::Again(silence(idle)))?
            .map_err(|error| {
                let text = format!("the download does not start: {}", failure::cause(&error));
                if error.is_builder() {
                    Broken::Fatal(LinkError::permanent(text))
                } else {
                    Broken::Again(text)
                }
            })?;
        let length = if self.offset == 0 {
            self.first(&response)?
        } else {
            self.resumed(&response)?
        };
        self.receive(response, length, idle).await
    }

    fn request(&self, client: &Client) -> reqwest::RequestBuilder {
        let mut request = client
            .get(&self.uri)
            .header(header::ACCEPT_ENCODING, "identity");
        if let (Some(total), 1..) = (self.total, self.offset) {
            request = request.header(
                header::RANGE,
                format!("bytes={}-{}", self.offset, total - 1),
            );
            if let Some(etag) = &self.etag {
                request = request.header(header::IF_RANGE, etag.clone());
            }
        }
        request
    }

    /// Judges an answer to a request for the whole; returns the length it announces.
    fn first(&mut self, response: &Response) -> Result<Option<u64>, Broken> {
        if response.status() != StatusCode::OK {
            return Err(refusal(response));
        }
        plain(response)?;
        let length = content_length(response);
        if self.total.is_some() && self.total != length {
            return Err(changed("its size is not what it was"));
        }
        self.total = length;
        self.shared
            .total
            .store(length.unwrap_or(0), Ordering::Relaxed);
        self.etag = response
            .headers()
            .get(header::ETAG)
            .filter(|etag| !etag.as_bytes().starts_with(b"W/"))
            .cloned();
        Ok(length)
    }

    /// Judges an answer to a request for the rest; it must fit exactly.
    fn resumed(&self, response: &Response) -> Result<Option<u64>, Broken> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => {
                return Err(changed(
                    "the server sends all of it again instead of the rest",
                ));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(changed("it has become shorter")),
            _ => return Err(refusal(response)),
        }
        plain(response)?;
        let total = self.total.unwrap_or(0);
        let expected = format!("bytes {}-{}/{total}", self.offset, total.saturating_sub(1));
        let range = response
            .headers()
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        if range.map(str::trim) != Some(expected.as_str()) {
            return Err(Broken::Fatal(LinkError::permanent(format!(
                "the download cannot be taken up: the server answered the range '{}' instead of '{expected}'",
                range.unwrap_or("none").chars().take(80).collect::<String>()
            ))));
        }
        let rest = total - self.offset;
        match content_length(response) {
            Some(length) if length != rest => Err(changed("the rest has not the announced length")),
            _ => Ok(Some(rest)),
        }
    }

    async fn receive(
        &mut self,
        mut response: Response,
        length: Option<u64>,
        idle: Duration,
    ) -> Result<(), Broken> {
        let end = length.map(|length| self.offset + length);
        loop {
            let piece = match timeout(idle, response.chunk()).await {
                Err(_) => return Err(self.broken(silence(idle))),
                Ok(Err(error)) => {
                    return Err(
                        self.broken(format!("the download broke: {}", failure::cause(&error)))
                    );
                }
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) if end.is_none_or(|end| end == self.offset) => return Ok(()),
                Ok(Ok(None)) => return Err(self.broken("the download ended early".to_owned())),
            };
            self.offset += piece.len() as u64;
            if end.is_some_and(|end| self.offset > end) {
                return Err(changed("more came than was announced"));
            }
            self.shared.received.store(self.offset, Ordering::Relaxed);
            self.hand_over(piece).await;
        }
    }

    /// A break in the middle: hopeless without a known size, because then nothing can be taken up.
    fn broken(&self, reason: String) -> Broken {
        if self.offset > 0 && self.total.is_none() {
            Broken::Fatal(LinkError::transient(format!(
                "{reason}; it cannot be taken up because the server did not say how long it is"
            )))
        } else {
            Broken::Again(reason)
        }
    }

    async fn hand_over(&self, piece: Bytes) {
        let mut full = {
            let mut queue = self.shared.queue();
            queue.bytes += piece.len();
            queue.pieces.push_back(piece);
            queue.bytes >= QUEUE_BYTES_MAX
        };
        self.shared.filled.notify_one();
        while full {
            self.shared.emptied.notified().await;
            let queue = self.shared.queue();
            full = queue.bytes >= QUEUE_BYTES_MAX;
        }
    }
}

fn silence(idle: Duration) -> String {
    format!(
        "the download stands still: nothing came for {} seconds",
        idle.as_secs_f32()
    )
}

fn changed(how: &str) -> Broken {
    Broken::Fatal(LinkError::permanent(format!(
        "the download cannot be taken up: {how}; the file on the server was changed meanwhile"
    )))
}

fn plain(response: &Response) -> Result<(), Broken> {
    match response.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(Broken::Fatal(LinkError::permanent(
            "the download comes with a content encoding that was not asked for; check the proxy or storage server",
        ))),
        _ => Ok(()),
    }
}

fn content_length(response: &Response) -> Option<u64> {
    response
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn refusal(response: &Response) -> Broken {
    let status = response.status();
    let text = format!("the storage server answered {status} to the download");
    match status.as_u16() {
        403 | 404 | 410 => Broken::Expired(text),
        408 | 425 | 429 | 500..=599 => Broken::Again(text),
        _ => Broken::Fatal(LinkError::permanent(text)),
    }
}
