//! What the two sides of a session tell each other over the bus.
//!
//! `[kind][session id, 16 bytes][number, 8 bytes][payload]`. The device's side listens to
//! `device.<tenant>.<device>`, the user's side to `session.<tenant>.<session>`; they may be in different
//! instances of the server. [`Kind::Data`] is numbered from 0 in each direction, so that a loss is
//! noticed, and answered by [`Kind::Consumed`], so that only a bounded amount is under way.

use ambidex_access::TenantId;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes under way in one direction of a session before its sender waits. Well below what a queue of the
/// bus holds, so that a queue never overflows because of one session.
pub(crate) const WINDOW_BYTES: u64 = 512 << 10;
/// The receiver tells what it has consumed after this many bytes.
pub(crate) const CONSUMED_BYTES: u64 = 64 << 10;

const HEAD_BYTES: usize = 25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the device's side, a request: begin a session. Payload [`Open`], answered by [`Opened`].
    Open = 1,
    /// A message of the session; the number counts them.
    Data = 2,
    /// The number is how many bytes have left the receiver since it last told.
    Consumed = 3,
    /// "I am still here"; the device's side answers with the same.
    Alive = 4,
    /// To the device's side: the user has left. Payload: why.
    Bye = 5,
    /// To the device's side: a newer connection, whose version the number is, has taken over.
    Replaced = 6,
    /// To the device's side, a request: a message outside of any session.
    Command = 7,
    /// To the device's side: close the connection. Payload: why.
    Kick = 8,
    /// To the user's side: the device has left. Payload: why.
    Gone = 9,
    /// To the device's side: tokens were revoked, see whether this connection's still counts.
    Check = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Open,
            2 => Kind::Data,
            3 => Kind::Consumed,
            4 => Kind::Alive,
            5 => Kind::Bye,
            6 => Kind::Replaced,
            7 => Kind::Command,
            8 => Kind::Kick,
            9 => Kind::Gone,
            10 => Kind::Check,
            _ => return None,
        })
    }
}

/// Payload of [`Kind::Open`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) user_id: String,
}

/// The answer to [`Kind::Open`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Why not.
    pub(crate) refused: Option<String>,
    /// Largest message that the device reads.
    pub(crate) message_bytes_max: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) kind: Kind,
    pub(crate) sid: Uuid,
    pub(crate) number: u64,
    pub(crate) payload: Bytes,
}

impl Envelope {
    pub(crate) fn encode(kind: Kind, sid: Uuid, number: u64, payload: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_BYTES + payload.len());
        out.put_u8(kind as u8);
        out.put_slice(sid.as_bytes());
        out.put_u64(number);
        out.put_slice(payload);
        out.freeze()
    }

    /// `None` for what another version of the server may send.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Envelope> {
        let (kind, rest) = bytes.split_first()?;
        let (sid, rest) = rest.split_first_chunk::<16>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        Some(Envelope {
            kind: Kind::from_byte(*kind)?,
            sid: Uuid::from_bytes(*sid),
            number: u64::from_be_bytes(*number),
            payload: bytes.slice(HEAD_BYTES..),
        })
    }
}

pub(crate) fn device_subject(tenant: &TenantId, device: &str) -> String {
    subject("device", tenant, device)
}

pub(crate) fn session_subject(tenant: &TenantId, sid: Uuid) -> String {
    subject("session", tenant, &sid.to_string())
}

fn subject(what: &str, tenant: &TenantId, id: &str) -> String {
    match tenant.as_str() {
        "" => format!("{what}.{id}"),
        tenant => format!("{what}.{tenant}.{id}"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn envelopes_survive_and_short_ones_are_refused() {
        let sid = Uuid::from_u128(7);
        let bytes = Envelope::encode(Kind::Data, sid, 1 << 40, b"x");
        let envelope = Envelope::decode(&bytes).unwrap();
        assert_eq!(envelope.kind, Kind::Data);
        assert_eq!((envelope.sid, envelope.number), (sid, 1 << 40));
        assert_eq!(&envelope.payload[..], b"x");
        for end in 0..HEAD_BYTES {
            assert!(Envelope::decode(&bytes.slice(..end)).is_none(), "{end}");
        }
        for kind in 1..=10 {
            assert_eq!(Kind::from_byte(kind).unwrap() as u8, kind);
        }
        assert!(Kind::from_byte(0).is_none() && Kind::from_byte(11).is_none());
    }

    #[test]
    fn subjects_leave_out_the_tenant_that_is_none() {
        assert_eq!(device_subject(&TenantId::new(""), "d"), "device.d");
        assert_eq!(device_subject(&TenantId::new("t"), "d"), "device.t.d");
    }
}
