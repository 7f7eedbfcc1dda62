//! Port forward ([`super::PROTO_FORWARD`]).

use super::fields::{Body, Fields};
use super::{Message, PROTO_FORWARD, SessionError};

/// Opens a connection on the device: [`Connect`].
pub const NEW: &str = "new";
/// Closes it.
pub const STOP: &str = "stop";
/// Carries data.
pub const FORWARD: &str = "forward";
/// Allows the next `forward`.
pub const ACK: &str = "ack";
/// [`Failure`].
pub const ERROR: &str = "error";

/// Property that names the connection in every message.
pub const CONNECTION_ID: &str = "connection_id";
/// Property of `new` and of the answer to it: how many `forward` messages the sender takes in one
/// direction of the connection before it has acknowledged the first. Each is still acknowledged, in their
/// order. What counts is the answer, never more than was asked for; without the property in both, it is
/// the reference's one at a time. With it, messages may carry more than [`DATA_BYTES`]: as much as the
/// device reads, or [`WINDOW_DATA_BYTES`].
pub const WINDOW: &str = "window";
/// Bytes of data in one message of a device whose peer has asked for a [`WINDOW`]. A window of such
/// messages fits into what servers let be under way in a session.
pub const WINDOW_DATA_BYTES: usize = 16 << 10;
/// Most messages that a [`WINDOW`] has.
pub const WINDOW_MAX: usize = 16;

/// Bytes of data in one message that every peer takes.
pub const DATA_BYTES: usize = 4096;

/// Body of `new`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// As the device resolves it.
    pub remote_host: String,
    /// There.
    pub remote_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

impl Connect {
    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str, connection_id: &str) -> Message {
        let body = Body::default()
            .with("remote_host", self.remote_host.as_str())
            .with("remote_port", self.remote_port)
            .with("protocol", self.protocol.as_str());
        message(NEW, sid, connection_id).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<Connect, SessionError> {
        let fields = Fields::read(body)?;
        let text = |name| fields.text(name)?.ok_or(SessionError::Field(name));
        Ok(Connect {
            remote_host: text("remote_host")?,
            remote_port: fields
                .number("remote_port")?
                .ok_or(SessionError::Field("remote_port"))?,
            protocol: text("protocol")?,
        })
    }
}

/// Body of `error`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, for people.
    pub err: String,
    /// Type of the message that failed.
    pub msgtype: Option<String>,
}

impl Failure {
    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str, connection_id: &str) -> Message {
        let body = Body::default()
            .with("err", self.err.as_str())
            .maybe("msgtype", self.msgtype.as_deref());
        message(ERROR, sid, connection_id).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<Failure, SessionError> {
        let fields = Fields::read(body)?;
        Ok(Failure {
            err: fields.text("err")?.unwrap_or_default(),
            msgtype: fields.text("msgtype")?,
        })
    }
}

/// A message of type `typ` about a connection.
#[must_use]
pub fn message(typ: &str, sid: &str, connection_id: &str) -> Message {
    Message::new(PROTO_FORWARD, typ, sid).prop(CONNECTION_ID, connection_id)
}
