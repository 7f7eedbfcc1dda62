//! One websocket: its two loops, signs of life in both directions, and the goodbye.
//!
//! The reading loop owns the [`Router`], the writing loop the queue of what is to be sent. They share the
//! socket, and neither waits for the other. When one ends, the connection ends, and with it every session.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::outgoing::{self, Out, Outgoing, Queue};
use crate::router::Router;
use crate::settings::Times;
use crate::{MESSAGE_BYTES_MAX, Shared};

/// Kept while idle, so small; a larger message has a buffer of its own while it lasts.
const READ_BYTES: usize = 16 << 10;
/// Messages are gathered up to this before they are written.
const WRITE_BYTES: usize = 64 << 10;
/// Messages that are written with one flush.
const BATCH_MAX: usize = 32;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// Payload of our pings, as the reference sends it: its silence limit in seconds.
const PING: Bytes = Bytes::from_static(b"60");
/// What a close frame takes besides its code.
const REASON_BYTES_MAX: usize = 123;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The caller wanted to leave.
    #[error("left: {0}")]
    Left(String),
    /// The server has closed it.
    #[error("the server closed the connection ({code}{})", dressed(.reason))]
    Closed {
        /// Of the close frame; 1005 without one.
        code: u16,
        /// In the server's words.
        reason: String,
    },
    /// The server sent what nobody understands.
    #[error("the server does not keep to the protocol: {0}")]
    Malformed(String),
    /// A message that is too large.
    #[error("the server sent a message of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    /// The network, or the server, is gone.
    #[error("the connection is lost: {0}")]
    Lost(String),
}

fn dressed(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

impl End {
    /// Code and reason of our close frame, where one makes sense.
    fn goodbye(&self) -> Option<(u16, String)> {
        match self {
            End::Left(reason) => Some((1001, reason.clone())),
            End::Malformed(reason) => Some((1007, reason.clone())),
            End::TooLarge => Some((1009, self.to_string())),
            End::Closed { .. } | End::Lost(_) => None,
        }
    }
}

pub(crate) async fn serve<S>(
    shared: &Arc<Shared>,
    stream: S,
    leave: impl Future<Output = String>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let (outgoing, mut queue) = outgoing::pair();
    let mut router = Router::new(shared, outgoing.clone());
    let times = shared.settings.times;
    let end = {
        let mut writing = pin!(write(&mut sink, &mut queue, &times));
        let end = tokio::select! {
            end = read(&mut source, &mut router, &outgoing, &times) => end,
            end = &mut writing => end,
            reason = leave => End::Left(reason),
        };
        if let Some((code, reason)) = end.goodbye() {
            let goodbye = async {
                router.farewell(&reason).await;
                outgoing.close(code, &reason).await;
            };
            // the writing loop has not ended: it never gives a reason for a goodbye
            let said = async { tokio::join!(goodbye, writing) };
            let _ = timeout(GOODBYE, said).await;
        }
        end
    };
    // from here on nothing is sent: who waits for room must not wait on
    drop(queue);
    drop(outgoing);
    router.end().await;
    if end.goodbye().is_some() {
        // what the server still sends must be read, or the network would throw our goodbye away
        let heard = async { while let Some(Ok(_)) = source.next().await {} };
        let _ = timeout(GOODBYE, heard).await;
    }
    end
}

fn lost(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::TooLarge,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => End::Lost("it was closed without a goodbye".to_owned()),
        Error::Protocol(error) => End::Malformed(error.to_string()),
        other => End::Lost(other.to_string()),
    }
}

/// Pings only a server that is silent: one that pings by itself, as the reference does every 30 s, has shown that it
/// is there, and an idle device need not wake for more.
async fn read<R>(source: &mut R, router: &mut Router, outgoing: &Outgoing, times: &Times) -> End
where
    R: Stream<Item = Result<Message, Error>> + Unpin,
{
    let mut heard = Instant::now();
    let mut asked = false;
    loop {
        let patience = if asked {
            times.socket_silence
        } else {
            times.socket_ping
        };
        let frame = tokio::select! {
            frame = source.next() => frame,
            () = router.reap() => continue,
            () = sleep_until(heard + patience) => {
                if asked {
                    let silence = times.socket_silence.as_secs();
                    return End::Lost(format!("no sign of life of the server for {silence} s"));
                }
                outgoing.ping();
                asked = true;
                continue;
            }
        };
        heard = Instant::now();
        asked = false;
        match frame {
            None => return End::Lost("it was closed without a goodbye".to_owned()),
            Some(Err(error)) => return lost(&error),
            Some(Ok(Message::Binary(bytes))) => {
                if let Err(error) = router.take(bytes) {
                    return End::Malformed(error.to_string());
                }
            }
            Some(Ok(Message::Text(_))) => {
                return End::Malformed("only binary messages are understood".to_owned());
            }
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                    (frame.code.into(), frame.reason.to_string())
                });
                return End::Closed { code, reason };
            }
            // pings are answered by the library
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
        }
    }
}

async fn write<W>(sink: &mut W, queue: &mut Queue, times: &Times) -> End
where
    W: Sink<Message, Error = Error> + Unpin,
{
    loop {
        let out = queue.next().await;
        match timeout(times.write_stall, batch(sink, queue, out)).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => return End::Lost("we have left".to_owned()),
            Ok(Err(error)) => return lost(&error),
            Err(_) => return stalled(times),
        }
    }
}

fn stalled(times: &Times) -> End {
    let seconds = times.write_stall.as_secs();
    End::Lost(format!("the server has taken nothing for {seconds} s"))
}

/// Writes what is there with one flush. True after a goodbye.
async fn batch<W>(sink: &mut W, queue: &mut Queue, first: Option<Out>) -> Result<bool, Error>
where
    W: Sink<Message, Error = Error> + Unpin,
{
    let mut next = first;
    let mut room = BATCH_MAX;
    while let Some(out) = next {
        match out {
            Out::Message(bytes) => sink.feed(Message::Binary(bytes.into())).await?,
            Out::Ping => sink.feed(Message::Ping(PING)).await?,
            Out::Close(code, mut reason) => {
                while reason.len() > REASON_BYTES_MAX {
                    reason.pop();
                }
                let frame = CloseFrame {
                    code: CloseCode::from(code),
                    reason: reason.into(),
                };
                sink.send(Message::Close(Some(frame))).await?;
                return Ok(true);
            }
        }
        room -= 1;
        next = if room > 0 { queue.ready() } else { None };
    }
    sink.flush().await?;
    Ok(false)
}
