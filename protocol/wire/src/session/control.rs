//! Opening, closing and errors of sessions ([`super::PROTO_CONTROL`]).

use super::fields::{Body, Fields, list};
use super::{Message, PROTO_CONTROL, SessionError, VERSION};

/// Asks for a sign of life.
pub const PING: &str = "ping";
/// The answer.
pub const PONG: &str = "pong";
/// Begins a session: [`Open`].
pub const OPEN: &str = "open";
/// The answer to it: [`Accept`].
pub const ACCEPT: &str = "accept";
/// Ends a session.
pub const CLOSE: &str = "close";
/// [`Failure`].
pub const ERROR: &str = "error";

/// A property that is sent back in the error that answers its message.
pub const MSGID: &str = "msgid";

/// Body of `open`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Versions of the session protocol that the sender speaks.
    pub versions: Vec<u32>,
}

impl Default for Open {
    fn default() -> Open {
        Open {
            versions: vec![VERSION],
        }
    }
}

impl Open {
    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str) -> Message {
        let body = Body::default().with("versions", list(self.versions.iter().copied()));
        Message::new(PROTO_CONTROL, OPEN, sid).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<Open, SessionError> {
        let versions = Fields::read(body)?.numbers("versions")?;
        Ok(Open {
            versions: versions.ok_or(SessionError::Field("versions"))?,
        })
    }
}

/// Body of `accept`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The version that is spoken from now on.
    pub version: u32,
    /// The protocols that the device serves, in any order; control is not among them.
    pub protocols: Vec<u16>,
}

impl Accept {
    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str) -> Message {
        let body = Body::default()
            .with("version", self.version)
            .with("protocols", list(self.protocols.iter().copied()));
        Message::new(PROTO_CONTROL, ACCEPT, sid).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<Accept, SessionError> {
        let fields = Fields::read(body)?;
        Ok(Accept {
            version: fields
                .number("version")?
                .ok_or(SessionError::Field("version"))?,
            protocols: fields.numbers("protocols")?.unwrap_or_default(),
        })
    }
}

/// Body of `error`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, for people.
    pub err: String,
    /// Whether the session ends with it.
    pub close: bool,
    /// Protocol of the message that failed.
    pub msgproto: Option<u16>,
    /// Its type.
    pub msgtype: Option<String>,
    /// Its property [`MSGID`].
    pub msgid: Option<String>,
    /// 400 to 599 mean the HTTP status of that number.
    pub code: Option<u16>,
}

impl Failure {
    /// An error that ends the session.
    #[must_use]
    pub fn closing(err: &str) -> Failure {
        Failure {
            err: err.to_owned(),
            close: true,
            ..Failure::default()
        }
    }

    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str) -> Message {
        let body = Body::default()
            .with("err", self.err.as_str())
            .with("close", self.close)
            .maybe("msgproto", self.msgproto)
            .maybe("msgtype", self.msgtype.as_deref())
            .maybe("msgid", self.msgid.as_deref())
            .maybe("code", self.code);
        Message::new(PROTO_CONTROL, ERROR, sid).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<Failure, SessionError> {
        let fields = Fields::read(body)?;
        Ok(Failure {
            err: fields.text("err")?.unwrap_or_default(),
            close: fields
                .optional("close", super::Value::as_bool)?
                .unwrap_or_default(),
            msgproto: fields.number("msgproto")?,
            msgtype: fields.text("msgtype")?,
            msgid: fields.text("msgid")?,
            code: fields.number("code")?,
        })
    }
}

/// Ends a session.
#[must_use]
pub fn close(sid: &str) -> Message {
    Message::new(PROTO_CONTROL, CLOSE, sid)
}
