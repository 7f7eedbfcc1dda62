//! What a terminal showed, and when: the form in which it is kept.
//!
//! A recording is a sequence of parts, each compressed by itself so that any of them can be read alone.
//! A part is a sequence of events: `[kind][milliseconds since the last event]` and then, for output,
//! `[length][bytes]`, for another size `[columns][rows]`. Numbers are in groups of seven bits, lowest
//! first. The first event of a part counts from the beginning of the session.

use std::io::{Read as _, Write as _};

use ambidex_db::{Db, DbError};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::store;

const OUTPUT: u8 = 0;
const RESIZE: u8 = 1;
/// Most bytes that one part unpacks to; writers stay far below.
const PART_BYTES_MAX: u64 = 16 << 20;
/// Parts read from the database at once.
const PARTS_AT_ONCE: i64 = 32;

/// Something that happened on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Output(Vec<u8>),
    /// Columns and rows.
    Resize(u16, u16),
}

/// Something that happened, at a time after the beginning of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at_ms: u64,
    pub(crate) what: What,
}

/// Collects the events of one part.
#[derive(Default)]
pub(crate) struct Part {
    bytes: Vec<u8>,
    last_ms: u64,
    output_bytes: u64,
}

impl Part {
    pub(crate) fn push(&mut self, at_ms: u64, what: &What) {
        let delta = at_ms.saturating_sub(self.last_ms);
        self.last_ms = self.last_ms.max(at_ms);
        match what {
            What::Output(output) => {
                self.bytes.push(OUTPUT);
                number(&mut self.bytes, delta);
                number(&mut self.bytes, output.len() as u64);
                self.bytes.extend_from_slice(output);
                self.output_bytes += output.len() as u64;
            }
            What::Resize(columns, rows) => {
                self.bytes.push(RESIZE);
                number(&mut self.bytes, delta);
                number(&mut self.bytes, u64::from(*columns));
                number(&mut self.bytes, u64::from(*rows));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of output in it.
    pub(crate) fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    pub(crate) fn compress(&self) -> std::io::Result<Vec<u8>> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.bytes)?;
        encoder.finish()
    }
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// The events of a part; those up to the first damage if it is damaged.
pub(crate) fn events(part: &[u8]) -> Vec<Event> {
    let mut bytes = Vec::new();
    // What was unpacked before the damage is still shown.
    let _ = DeflateDecoder::new(part)
        .take(PART_BYTES_MAX)
        .read_to_end(&mut bytes);
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    let mut at_ms = 0_u64;
    while let Some(event) = event(&mut rest, &mut at_ms) {
        events.push(event);
    }
    events
}

fn event(rest: &mut &[u8], at_ms: &mut u64) -> Option<Event> {
    let (kind, tail) = rest.split_first()?;
    *rest = tail;
    *at_ms = at_ms.saturating_add(read_number(rest)?);
    let what = match *kind {
        OUTPUT => {
            let length = usize::try_from(read_number(rest)?).ok()?;
            let (output, tail) = rest.split_at_checked(length)?;
            *rest = tail;
            What::Output(output.to_vec())
        }
        RESIZE => {
            let columns = u16::try_from(read_number(rest)?).ok()?;
            What::Resize(columns, u16::try_from(read_number(rest)?).ok()?)
        }
        _ => return None,
    };
    Some(Event {
        at_ms: *at_ms,
        what,
    })
}

/// Reads a recording piece by piece.
pub(crate) struct Player {
    db: Db,
    tenant: String,
    session: String,
    next_part: i64,
}

impl Player {
    pub(crate) fn new(db: Db, tenant: &str, session: &str) -> Player {
        Player {
            db,
            tenant: tenant.to_owned(),
            session: session.to_owned(),
            next_part: 0,
        }
    }

    /// The next events; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, DbError> {
        let parts = store::recording::parts(
            &self.db,
            &self.tenant,
            &self.session,
            self.next_part,
            PARTS_AT_ONCE,
        )
        .await?;
        self.next_part += i64::try_from(parts.len()).unwrap_or(PARTS_AT_ONCE);
        Ok(parts.iter().flat_map(|part| events(part)).collect())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_and_damage_ends_them() {
        let mut part = Part::default();
        let events_in = [
            Event {
                at_ms: 1000,
                what: What::Resize(132, 50),
            },
            Event {
                at_ms: 1000,
                what: What::Output(b"hello\x1b[0m\xff".to_vec()),
            },
            Event {
                at_ms: 70_000_000,
                what: What::Output(vec![b'x'; 5000]),
            },
        ];
        for event in &events_in {
            part.push(event.at_ms, &event.what);
        }
        assert_eq!(part.output_bytes(), 5010);
        let packed = part.compress().unwrap();
        assert!(packed.len() < 200, "{}", packed.len());
        assert_eq!(events(&packed), events_in);
        for end in 0..packed.len() {
            let read = events(&packed[..end]);
            assert_eq!(read, events_in[..read.len()]);
        }
        assert!(events(b"anything at all").len() < 20);
    }
}
