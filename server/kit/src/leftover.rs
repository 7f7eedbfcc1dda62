//! What a handler left unread of a request's body.
//!
//! An answer sent while the client is still writing is lost with the connection: the client's next write
//! meets a closed socket, and it reports a broken connection instead of the 413 or 401 that explains it.
//! So the rest is read, within limits, before the answer goes out.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::header::EXPECT;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// Longest rest that is read, in bytes. The sender of more learns of it by the closed connection.
const BYTES_MAX: usize = 4 << 20;
/// Longest time for it, and for a pause in it: a sender that waits for the answer must not wait for long.
const TIME_MAX: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Where the unread rest of one body comes back to.
#[derive(Clone, Default)]
pub(crate) struct Leftover(Arc<Mutex<Option<Body>>>);

impl Leftover {
    /// Takes the request's body under watch. `None` when there is nothing to read.
    pub(crate) fn watch(request: &mut Request) -> Option<Leftover> {
        // Who asked first sends nothing more after a refusal.
        if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
            return None;
        }
        let leftover = Leftover::default();
        let body = std::mem::replace(request.body_mut(), Body::empty());
        *request.body_mut() = Body::new(Watched {
            body: Some(body),
            leftover: leftover.clone(),
        });
        Some(leftover)
    }

    /// Reads and forgets the rest, if the handler is done with the body and did not read it all.
    pub(crate) async fn drain(self) {
        let rest = self.0.lock().ok().and_then(|mut rest| rest.take());
        let Some(mut rest) = rest else { return };
        let read = async {
            let mut bytes = 0;
            while let Ok(Some(Ok(frame))) = timeout(PAUSE_MAX, rest.frame()).await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > BYTES_MAX {
                    break;
                }
            }
        };
        // Late or not: the answer goes out.
        let _ = timeout(TIME_MAX, read).await;
    }
}

struct Watched {
    /// `None` once it ended or failed.
    body: Option<Body>,
    leftover: Leftover,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::new, HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if body.is_end_stream() {
            return;
        }
        if let Ok(mut rest) = self.leftover.0.lock() {
            *rest = Some(body);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn request(chunks: usize, taken: &Arc<AtomicUsize>) -> Request {
        let taken = Arc::clone(taken);
        let stream = stream::iter(0..chunks).map(move |_| {
            taken.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 20]))
        });
        Request::new(Body::from_stream(stream))
    }

    #[tokio::test]
    async fn an_unread_rest_is_read_up_to_the_limit() {
        for (chunks, expected) in [(1, 1), (3, 3), (50, 5)] {
            let taken = Arc::new(AtomicUsize::new(0));
            let mut request = request(chunks, &taken);
            let leftover = Leftover::watch(&mut request).unwrap();
            drop(request);
            leftover.drain().await;
            assert_eq!(taken.load(Ordering::Relaxed), expected, "{chunks}");
        }
    }

    #[tokio::test]
    async fn a_read_body_leaves_nothing_and_loses_nothing() {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut request = request(2, &taken);
        let leftover = Leftover::watch(&mut request).unwrap();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 2 << 20);
        leftover.drain().await;
        assert_eq!(taken.load(Ordering::Relaxed), 2);
        assert!(Leftover::watch(&mut Request::new(Body::empty())).is_none());
    }
}
