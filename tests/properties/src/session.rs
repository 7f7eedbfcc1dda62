//! Messages of remote sessions, as they come through the websocket.
//!
//! - What is accepted is within the limits, costs memory in proportion to its bytes, and means the same when it is
//!   written and read again.
//! - The view that only routes agrees with the one that owns its parts.
//! - The same for every body with a structure.

use ambidex_wire::session::{
    DEPTH_MAX, Message, MessageRef, PROPS_MAX, SID_BYTES_MAX, TYPE_BYTES_MAX, Value, control, file,
    forward, shell,
};

use crate::{allocation, seeds};

/// Bytes of memory that a byte of input may cost: an empty key with an empty value has two bytes and is an entry of a
/// list that doubles as it grows.
const MEMORY_PER_BYTE: usize = 100;
const MEMORY_BASE: usize = 64 << 10;

pub fn check(bytes: &[u8]) {
    let memory = MEMORY_BASE + MEMORY_PER_BYTE * bytes.len();
    let message = allocation::at_most(memory, || Message::decode(bytes));
    let routed = MessageRef::decode(bytes);
    assert_eq!(message.is_ok(), routed.is_ok(), "two views of one message");
    if let (Ok(message), Ok(routed)) = (&message, routed) {
        keeps(message, routed);
    }
    let body = match &message {
        Ok(message) => message.body.as_slice(),
        Err(_) => bytes,
    };
    if let Ok(value) = allocation::at_most(memory, || Value::decode(body)) {
        let encoded = value.encode();
        let again = Value::decode(&encoded).expect("what is written can be read");
        // not the values: NaN is unlike itself
        assert_eq!(again.encode(), encoded);
        assert!(depth(&again) <= DEPTH_MAX + 1);
    }
    bodies(body);
}

fn keeps(message: &Message, routed: MessageRef<'_>) {
    assert!(message.typ.len() <= TYPE_BYTES_MAX);
    assert!(message.sid.len() <= SID_BYTES_MAX);
    assert!(message.props.iter().count() <= PROPS_MAX);
    let owned = routed.to_message().expect("reading has checked it");
    let encoded = message.encode();
    assert_eq!(owned.encode(), encoded, "two views of one message");
    let again = Message::decode(&encoded).expect("what is written can be read");
    assert_eq!(again.encode(), encoded);
    assert_eq!(
        (again.proto, &again.typ, &again.sid, &again.body),
        (message.proto, &message.typ, &message.sid, &message.body)
    );
    let props = routed.props().expect("reading has checked them");
    let sent = Message::decode(&routed.encode_as("another", &props)).expect("it can be routed");
    assert_eq!(
        (sent.sid.as_str(), sent.body.as_slice()),
        ("another", routed.body)
    );
    assert_eq!(again.props.offset(), message.props.offset());
    if let Some((width, height)) = shell::size(&message.props) {
        assert!(width > 0 && height > 0);
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|(_, v)| depth(v)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Each body that is understood is understood the same after it was written.
fn bodies(body: &[u8]) {
    macro_rules! same {
        ($read:expr, $write:expr) => {
            if let Ok(read) = $read(body) {
                let written = $write(&read);
                assert_eq!($read(&written.body).as_ref(), Ok(&read));
            }
        };
    }
    same!(control::Open::decode, |b: &control::Open| b.message("s"));
    same!(control::Accept::decode, |b: &control::Accept| b
        .message("s"));
    same!(control::Failure::decode, |b: &control::Failure| b
        .message("s"));
    same!(file::Path::decode, |b: &file::Path| b
        .message(file::STAT, "s"));
    same!(file::FileInfo::decode, |b: &file::FileInfo| b.message("s"));
    same!(file::PutFile::decode, |b: &file::PutFile| b.message("s"));
    same!(file::Failure::decode, |b: &file::Failure| b.message("s"));
    same!(forward::Connect::decode, |b: &forward::Connect| b
        .message("s", "c"));
    same!(forward::Failure::decode, |b: &forward::Failure| b
        .message("s", "c"));
}

/// The captured messages, and their bodies.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::hex_literals("protocol/wire/tests/session_vectors.rs");
    let bodies: Vec<Vec<u8>> = all
        .iter()
        .filter_map(|bytes| Some(Message::decode(bytes).ok()?.body))
        .filter(|body| !body.is_empty())
        .collect();
    all.extend(bodies);
    all
}
