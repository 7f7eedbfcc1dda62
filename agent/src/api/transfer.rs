//! The fetching end of a download.
//!
//! What was received is never fetched again: a broken transfer is taken up with `Range` (and `If-Range` when the server
//! gave a strong `ETag`), and every answer must fit exactly. An expired link is replaced through a [`Renewal`]. A
//! download may also begin at the [`Position`] of an earlier life; as long as nothing was handed over in this one, an
//! answer that does not fit only means that it begins anew.
//!
//! Source: reference agent, section 2 "Download", weaknesses W2 and W3 cured.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use reqwest::{Client, Response, StatusCode, header};
use tokio::time::timeout;

use super::{
    Link, LinkError, LinkErrorKind,
    download::{Beginning, Ending, Position, Renewal, Shared},
    failure,
    rate::Bucket,
};
use crate::backoff::jittered;

pub(super) struct Transfer {
    shared: Arc<Shared>,
    link: Link,
    uri: String,
    renewal: Option<Renewal>,
    /// Bytes handed over so far.
    offset: u64,
    total: Option<u64>,
    /// Strong validator of the first answer.
    etag: Option<String>,
    retries: u32,
    /// The last link that was refused as expired was itself a fresh one.
    renewed: bool,
    /// The position is that of an earlier life, and no server has confirmed it yet.
    untouched: bool,
    limit: Option<Bucket>,
}

/// How one connection ended.
enum Broken {
    /// Worth another try.
    Again(String),
    /// The link is not valid any more.
    Expired(String),
    /// What an earlier life has received is of no use.
    Anew(String),
    Fatal(LinkError),
}

impl Transfer {
    pub fn new(
        shared: Arc<Shared>,
        link: Link,
        uri: String,
        renewal: Option<Renewal>,
        position: Option<Position>,
    ) -> Self {
        let limit = link.config().download.rate_limit.map(Bucket::new);
        let (offset, total, etag) = match position {
            Some(position) => (position.offset, Some(position.total), position.etag),
            None => (0, None, None),
        };
        Self {
            shared,
            link,
            uri,
            renewal,
            offset,
            total,
            etag,
            retries: 0,
            renewed: false,
            untouched: offset > 0,
            limit,
        }
    }

    pub async fn run(mut self, ending: Ending) {
        let shared = Arc::clone(&self.shared);
        let result = tokio::select! {
            result = self.fetch() => result,
            () = shared.stopped.notified() => Err(LinkError::new(LinkErrorKind::Cancelled, "the download was cancelled")),
        };
        ending.with(result);
    }

    async fn fetch(&mut self) -> Result<(), LinkError> {
        if self.total.is_some_and(|total| total == self.offset) {
            // an earlier life has received all of it
            self.shared.begin(Beginning::Rest);
            return Ok(());
        }
        let client = self.link.client().await?;
        loop {
            let reason = match self.connection(&client).await {
                Ok(()) => return Ok(()),
                Err(Broken::Fatal(error)) => return Err(error),
                Err(Broken::Again(reason)) => reason,
                Err(Broken::Anew(reason)) => {
                    self.begin_anew(&reason);
                    continue;
                }
                Err(Broken::Expired(reason)) => {
                    if self.renewal.is_none() {
                        return Err(LinkError::new(LinkErrorKind::Gone, reason));
                    }
                    let fresh = std::mem::replace(&mut self.renewed, true);
                    if !fresh {
                        self.count(&reason)?;
                    }
                    match self.renew().await {
                        Ok(()) if fresh => format!("{reason}, and that link was a fresh one"),
                        Ok(()) => continue,
                        Err(error)
                            if matches!(
                                error.kind(),
                                LinkErrorKind::Transient { .. } | LinkErrorKind::Unauthorized
                            ) =>
                        {
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

    /// Gives up what an earlier life has received.
    fn begin_anew(&mut self, reason: &str) {
        log::warn!("the interrupted download begins anew: {reason}");
        (self.offset, self.total, self.etag) = (0, None, None);
        self.untouched = false;
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
        let response = timeout(idle, self.link.dispatch(self.request(client)))
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
        } else if self.untouched {
            self.taken_up(&response)?
        } else {
            self.resumed(&response)?
        };
        self.renewed = false;
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
                request = request.header(header::IF_RANGE, etag);
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
        self.etag = etag(response);
        self.shared
            .begin(Beginning::Whole(length.map(|total| Position {
                offset: 0,
                total,
                etag: self.etag.clone(),
            })));
        Ok(length)
    }

    /// Judges the answer to the first request of a life that has a beginning already.
    fn taken_up(&mut self, response: &Response) -> Result<Option<u64>, Broken> {
        let strange = |response: &Response| match (&self.etag, etag(response)) {
            (Some(known), Some(now)) => *known != now,
            _ => false,
        };
        match response.status() {
            // the whole file is on its way already: it is another one, or the server knows no ranges
            StatusCode::OK => {
                self.begin_anew("the server sends all of it");
                return self.first(response);
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Broken::Anew("the file has become shorter".into()));
            }
            StatusCode::PARTIAL_CONTENT if strange(response) => {
                return Err(Broken::Anew("the file was changed".into()));
            }
            StatusCode::PARTIAL_CONTENT if other_size(response, self.total) => {
                return Err(Broken::Anew("the file has another size".into()));
            }
            _ => {}
        }
        let length = self.resumed(response)?;
        self.shared
            .total
            .store(self.total.unwrap_or(0), Ordering::Relaxed);
        self.shared.received.store(self.offset, Ordering::Relaxed);
        // from here on the reader counts on it
        self.untouched = false;
        self.shared.begin(Beginning::Rest);
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
            let bytes = piece.len() as u64;
            self.shared.hand_over(piece).await;
            if let Some(limit) = &mut self.limit {
                tokio::time::sleep(limit.take(bytes, Instant::now())).await;
            }
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

/// The strong validator, if there is one.
fn etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(header::ETAG)?.to_str().ok()?;
    (!etag.starts_with("W/")).then(|| etag.to_owned())
}

/// Whether the answer to a range says that the whole has another size.
fn other_size(response: &Response, total: Option<u64>) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE);
    range
        .and_then(|range| range.to_str().ok()?.trim().rsplit_once('/')?.1.parse().ok())
        .is_some_and(|size: u64| Some(size) != total)
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
        // some object stores answer 400 or 401 where the signature of a link has expired
        400 | 401 | 403 | 404 | 410 => Broken::Expired(text),
        408 | 425 | 429 | 500..=599 => Broken::Again(text),
        _ => Broken::Fatal(LinkError::permanent(text)),
    }
}
