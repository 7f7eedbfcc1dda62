//! A websocket as the rules see it, and why one ends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};

/// One frame, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Binary(Bytes),
    Text,
    Ping(Bytes),
    Pong,
    /// Code and reason.
    Close(u16, String),
}

/// Why a socket gave no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketError {
    /// A message above the limit.
    TooLarge,
    /// The peer is gone, or does not keep to the protocol.
    Broken,
}

/// Both directions of a websocket.
pub(crate) trait Socket:
    Stream<Item = Result<Frame, SocketError>>
    + Sink<Frame, Error = SocketError>
    + Unpin
    + Send
    + 'static
{
}

impl<T> Socket for T where
    T: Stream<Item = Result<Frame, SocketError>>
        + Sink<Frame, Error = SocketError>
        + Unpin
        + Send
        + 'static
{
}

/// Payload of our pings, as the reference sends it: its silence limit in seconds.
pub(crate) const PING: Bytes = Bytes::from_static(b"60");
/// How long we wait for the peer's half of a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a connection ends. Carries what its close frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it, or is gone.
    Peer,
    /// We close it.
    Close(u16, String),
}

impl End {
    /// Normal.
    pub(crate) fn done(reason: &str) -> End {
        End::Close(1000, reason.to_owned())
    }

    /// The server stops, or what the peer talked to is gone.
    pub(crate) fn away(reason: &str) -> End {
        End::Close(1001, reason.to_owned())
    }

    /// Not binary.
    pub(crate) fn unsupported() -> End {
        End::Close(1003, "only binary messages are understood".to_owned())
    }

    /// Bytes that are no message.
    pub(crate) fn malformed(error: &dyn std::fmt::Display) -> End {
        End::Close(1007, error.to_string())
    }

    /// A limit or a rule.
    pub(crate) fn policy(reason: &str) -> End {
        End::Close(1008, reason.to_owned())
    }

    /// A message above its limit.
    pub(crate) fn too_large() -> End {
        End::Close(1009, "message too large".to_owned())
    }

    /// Our fault.
    pub(crate) fn internal() -> End {
        End::Close(1011, "internal error".to_owned())
    }
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> End {
        match error {
            SocketError::TooLarge => End::too_large(),
            SocketError::Broken => End::Peer,
        }
    }
}

/// Sends one frame; a peer that takes nothing for `stall` is given up.
pub(crate) async fn send<S>(sink: &mut S, frame: Frame, stall: Duration) -> Result<(), End>
where
    S: Sink<Frame, Error = SocketError> + Unpin,
{
    match tokio::time::timeout(stall, sink.send(frame)).await {
        Ok(sent) => sent.map_err(End::from),
        Err(_) => Err(End::policy("the connection is too slow")),
    }
}

/// Says goodbye and waits a moment for the answer, so that the peer reads the reason before the
/// connection is gone.
pub(crate) async fn close<S: Socket>(socket: &mut S, end: &End) {
    let End::Close(code, reason) = end else {
        return;
    };
    // A control frame takes 125 bytes, two of which are the code.
    let mut reason = reason.clone();
    while reason.len() > 123 {
        reason.pop();
    }
    let goodbye = async {
        if socket.send(Frame::Close(*code, reason)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}
