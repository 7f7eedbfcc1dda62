//! The envelope of every message.

use super::msgpack::{
    DEPTH_MAX, Reader, Value, write_bytes, write_i64, write_map, write_text, write_u16, write_value,
};
use super::{PROPS_MAX, SID_BYTES_MAX, SessionError, TYPE_BYTES_MAX};

/// Must be written as a 64-bit integer: see the module.
const OFFSET: &str = "offset";

/// Properties of a message, in the order they are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Props(Vec<(String, Value)>);

impl Props {
    /// None.
    #[must_use]
    pub fn new() -> Props {
        Props::default()
    }

    /// With `key` set.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Props {
        self.set(key, value);
        self
    }

    /// Sets `key`, replacing what was there.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.remove(key);
        self.0.push((key.to_owned(), value.into()));
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k != key);
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The integer of `key`, of any width.
    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(Value::as_i64)
    }

    /// The text of `key`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text)
    }

    /// The offset of a file transfer.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.get(OFFSET).and_then(Value::as_u64)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    fn read(bytes: &[u8]) -> Result<Props, SessionError> {
        if bytes.is_empty() {
            return Ok(Props::default());
        }
        match Reader::new(bytes).value(DEPTH_MAX)? {
            Value::Map(entries) => Ok(Props(entries)),
            _ => Ok(Props::default()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_map(out, self.0.len());
        for (key, value) in &self.0 {
            write_text(out, key);
            match value {
                Value::Int(n) if key == OFFSET => write_i64(out, *n),
                other => write_value(out, other),
            }
        }
    }
}

/// A message that owns its parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// Which protocol: `PROTO_…`.
    pub proto: u16,
    /// Which message of the protocol; may be empty.
    pub typ: String,
    /// The session; may be empty.
    pub sid: String,
    /// Properties.
    pub props: Props,
    /// What it carries; its meaning depends on `proto` and `typ`.
    pub body: Vec<u8>,
}

impl Message {
    /// A message without properties and body.
    #[must_use]
    pub fn new(proto: u16, typ: &str, sid: &str) -> Message {
        Message {
            proto,
            typ: typ.to_owned(),
            sid: sid.to_owned(),
            ..Message::default()
        }
    }

    /// With a property.
    #[must_use]
    pub fn prop(mut self, key: &str, value: impl Into<Value>) -> Message {
        self.props.set(key, value);
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Message {
        self.body = body.into();
        self
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`SessionError`] when the bytes are no message.
    pub fn decode(bytes: &[u8]) -> Result<Message, SessionError> {
        MessageRef::decode(bytes)?.to_message()
    }

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(&self.body)
    }

    /// The message with another body as bytes: saves a copy of a large one.
    #[must_use]
    pub fn encode_with(&self, body: &[u8]) -> Vec<u8> {
        encode(self.proto, &self.typ, &self.sid, &self.props, body)
    }
}

/// A message that borrows from the bytes it was read from: enough to route it without copying its body.
/// Reading has checked the whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// As in [`Message`].
    pub proto: u16,
    /// As in [`Message`].
    pub typ: &'a str,
    /// As in [`Message`].
    pub sid: &'a str,
    /// As in [`Message`].
    pub body: &'a [u8],
    /// The encoded map, empty when there is none.
    props: &'a [u8],
}

impl<'a> MessageRef<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`SessionError`] when the bytes are no message.
    pub fn decode(bytes: &'a [u8]) -> Result<MessageRef<'a>, SessionError> {
        let mut reader = Reader::new(bytes);
        let mut message = MessageRef {
            proto: 0,
            typ: "",
            sid: "",
            body: &[],
            props: &[],
        };
        let entries = reader
            .map()?
            .ok_or(SessionError::Malformed("no map where one must be"))?;
        let mut headed = false;
        for _ in 0..entries {
            match reader.key()? {
                "hdr" => {
                    message.header(&mut reader)?;
                    headed = true;
                }
                "body" => message.body = reader.bytes()?,
                _ => reader.skip(DEPTH_MAX)?,
            }
        }
        if headed {
            Ok(message)
        } else {
            Err(SessionError::Malformed("no header"))
        }
    }

    fn header(&mut self, reader: &mut Reader<'a>) -> Result<(), SessionError> {
        let entries = reader.map()?.ok_or(SessionError::Malformed("no header"))?;
        let mut numbered = false;
        for _ in 0..entries {
            match reader.key()? {
                "proto" => {
                    self.proto = reader
                        .value(0)?
                        .as_u64()
                        .and_then(|n| u16::try_from(n).ok())
                        .ok_or(SessionError::Malformed("no protocol number"))?;
                    numbered = true;
                }
                "typ" => self.typ = limited(reader.text()?, TYPE_BYTES_MAX, "a type")?,
                "sid" => self.sid = limited(reader.text()?, SID_BYTES_MAX, "a session id")?,
                "props" => self.props = props(reader)?,
                _ => reader.skip(DEPTH_MAX)?,
            }
        }
        if numbered {
            Ok(())
        } else {
            Err(SessionError::Malformed("no protocol number"))
        }
    }

    /// Its properties.
    ///
    /// # Errors
    /// None for a message that was read by [`MessageRef::decode`].
    pub fn props(&self) -> Result<Props, SessionError> {
        Props::read(self.props)
    }

    /// A copy that owns its parts.
    ///
    /// # Errors
    /// None for a message that was read by [`MessageRef::decode`].
    pub fn to_message(self) -> Result<Message, SessionError> {
        Ok(Message {
            proto: self.proto,
            typ: self.typ.to_owned(),
            sid: self.sid.to_owned(),
            props: self.props()?,
            body: self.body.to_vec(),
        })
    }

    /// The same message with another body.
    #[must_use]
    pub fn with_body(self, body: &'a [u8]) -> MessageRef<'a> {
        MessageRef { body, ..self }
    }

    /// The message as bytes, with another session id and other properties.
    #[must_use]
    pub fn encode_as(&self, sid: &str, props: &Props) -> Vec<u8> {
        encode(self.proto, self.typ, sid, props, self.body)
    }
}

fn limited<'a>(
    text: &'a str,
    bytes_max: usize,
    what: &'static str,
) -> Result<&'a str, SessionError> {
    if text.len() > bytes_max {
        return Err(SessionError::TooLarge(what));
    }
    Ok(text)
}

/// Checks the map of properties and returns its bytes.
fn props<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], SessionError> {
    let whole = reader.rest();
    let mut ahead = reader.clone();
    let entries = ahead.map()?;
    if entries.is_some_and(|count| count > PROPS_MAX) {
        return Err(SessionError::TooLarge("a number of properties"));
    }
    // Read, not only passed over: its texts must be valid before anybody counts on it.
    reader.value(DEPTH_MAX)?;
    Ok(whole
        .get(..whole.len() - reader.rest().len())
        .unwrap_or_default())
}

fn encode(proto: u16, typ: &str, sid: &str, props: &Props, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + typ.len() + sid.len() + body.len());
    write_map(&mut out, 1 + usize::from(!body.is_empty()));
    write_text(&mut out, "hdr");
    let parts = [!typ.is_empty(), !sid.is_empty(), !props.is_empty()];
    write_map(&mut out, 1 + parts.iter().filter(|part| **part).count());
    write_text(&mut out, "proto");
    write_u16(&mut out, proto);
    if !typ.is_empty() {
        write_text(&mut out, "typ");
        write_text(&mut out, typ);
    }
    if !sid.is_empty() {
        write_text(&mut out, "sid");
        write_text(&mut out, sid);
    }
    if !props.is_empty() {
        write_text(&mut out, "props");
        props.write(&mut out);
    }
    if !body.is_empty() {
        write_text(&mut out, "body");
        write_bytes(&mut out, body);
    }
    out
}
