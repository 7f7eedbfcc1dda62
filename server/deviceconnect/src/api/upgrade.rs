//! From a request to a websocket.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ambidex_kit::{ApiError, Upgraded, Upgrades};
use ambidex_wire::session::SUBPROTOCOL;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::{Sink, Stream};
use http::request::Parts;
use tokio_tungstenite::tungstenite;

use crate::domain::socket::{Frame, SocketError};

/// What is read from a device at once. An idle connection keeps a buffer of this size, and there are many;
/// larger messages get a larger one while they last.
pub(super) const DEVICE_READ_BYTES: usize = 4096;
/// What is read from a user at once.
pub(super) const USER_READ_BYTES: usize = 16 << 10;
/// What waits to be written before we wait for the connection.
const WRITE_BUFFER_BYTES: usize = 0;

/// A request to become a websocket. Any request is taken: operations have answers of their own that come
/// before the one that a request is no such request.
pub(super) struct Upgrade {
    upgrade: Result<WebSocketUpgrade, String>,
    upgrades: Option<Upgrades>,
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Upgrade, ApiError> {
        let upgrades = parts.extensions.get::<Upgrades>().cloned();
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
        Ok(Upgrade {
            upgrade: upgrade.map_err(|rejection| rejection.body_text()),
            upgrades,
        })
    }
}

/// A request that can become a websocket.
pub(super) struct Ready {
    upgrade: WebSocketUpgrade,
    held: Upgraded,
}

impl Upgrade {
    /// 400 for a request that is none for a websocket; 503 when there are as many as there may be.
    pub(super) fn ready(self) -> Result<Ready, ApiError> {
        let upgrade = self.upgrade.map_err(ApiError::bad_request)?;
        // Listeners without this accounting (tests of single services) have no limit.
        let held = match self.upgrades {
            Some(upgrades) => upgrades.take(),
            None => return Err(ApiError::internal("the listener counts no websockets")),
        };
        let held =
            held.ok_or_else(|| ApiError::unavailable("too many connections; try again later"))?;
        Ok(Ready { upgrade, held })
    }
}

impl Ready {
    /// Becomes one that reads messages of at most `message_bytes_max`, `read_bytes` at once, and goes on
    /// with `then`.
    pub(super) fn open<F>(
        self,
        read_bytes: usize,
        message_bytes_max: usize,
        then: impl FnOnce(Ws, Upgraded) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let held = self.held;
        self.upgrade
            .protocols([SUBPROTOCOL])
            .read_buffer_size(read_bytes)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(message_bytes_max)
            .max_frame_size(message_bytes_max)
            .on_failed_upgrade(|error| tracing::debug!(%error, "a websocket was not opened"))
            .on_upgrade(move |socket| then(Ws(socket), held))
    }
}

/// The framework's websocket in our terms.
pub(super) struct Ws(WebSocket);

impl Stream for Ws {
    type Item = Result<Frame, SocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(Pin::new(&mut self.0).poll_next(cx));
        Poll::Ready(message.map(|message| match message {
            Ok(Message::Binary(bytes)) => Ok(Frame::Binary(bytes)),
            Ok(Message::Text(_)) => Ok(Frame::Text),
            Ok(Message::Ping(bytes)) => Ok(Frame::Ping(bytes)),
            Ok(Message::Pong(_)) => Ok(Frame::Pong),
            Ok(Message::Close(frame)) => {
                let frame = frame.map(|frame| (frame.code, frame.reason.to_string()));
                let (code, reason) = frame.unwrap_or((1005, String::new()));
                Ok(Frame::Close(code, reason))
            }
            Err(error) => Err(kind(error)),
        }))
    }
}

impl Sink<Frame> for Ws {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(kind)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), SocketError> {
        let message = match frame {
            Frame::Binary(bytes) => Message::Binary(bytes),
            Frame::Ping(bytes) => Message::Ping(bytes),
            Frame::Close(code, reason) => Message::Close(Some(CloseFrame {
                code,
                reason: reason.into(),
            })),
            // Nobody sends these.
            Frame::Text | Frame::Pong => return Ok(()),
        };
        Pin::new(&mut self.0).start_send(message).map_err(kind)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(kind)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(kind)
    }
}

fn kind(error: axum::Error) -> SocketError {
    let inner = error.into_inner();
    match inner.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => SocketError::TooLarge,
        _ => SocketError::Broken,
    }
}
