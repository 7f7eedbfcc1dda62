//! The queue of messages to one session, counted in bytes.
//!
//! The reading loop must not wait for a session, so its queue takes everything, up to a limit that no
//! peer reaches who keeps to the windows. Bytes count until they are *used*, in whatever queue behind
//! this one they wait: the [`Incoming`] carries its share of the count with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambidex_wire::session::{MessageRef, SessionError};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Bytes that may wait in one session: a window of twenty of the largest messages, and a little.
pub(crate) const WAITING_BYTES_MAX: usize = 24 * crate::MESSAGE_BYTES_MAX;
/// What a message costs besides its bytes.
const OVERHEAD_BYTES: usize = 128;

/// A message that is not used up yet.
#[derive(Debug)]
pub(crate) struct Incoming {
    bytes: Bytes,
    _share: Share,
}

#[derive(Debug)]
struct Share {
    count: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Incoming {
    /// The message.
    pub(crate) fn message(&self) -> Result<MessageRef<'_>, SessionError> {
        MessageRef::decode(&self.bytes)
    }

    /// Its body, empty where there is none.
    pub(crate) fn body(&self) -> &[u8] {
        self.message().map_or(&[], |message| message.body)
    }
}

/// The end where messages are put in; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    sender: mpsc::UnboundedSender<Incoming>,
    count: Arc<AtomicUsize>,
}

/// Why a message was not put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody takes messages any more.
    Ended,
    /// Too much waits.
    Full,
}

pub(crate) fn pair() -> (Inbox, mpsc::UnboundedReceiver<Incoming>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let count = Arc::default();
    (Inbox { sender, count }, receiver)
}

impl Inbox {
    pub(crate) fn put(&self, bytes: Bytes) -> Result<(), Refused> {
        let cost = bytes.len() + OVERHEAD_BYTES;
        if self.count.load(Ordering::Relaxed) + cost > WAITING_BYTES_MAX {
            return Err(Refused::Full);
        }
        self.count.fetch_add(cost, Ordering::Relaxed);
        let share = Share {
            count: Arc::clone(&self.count),
            bytes: cost,
        };
        let incoming = Incoming {
            bytes,
            _share: share,
        };
        self.sender.send(incoming).map_err(|_| Refused::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_they_are_used() {
        let (inbox, mut messages) = pair();
        let piece = Bytes::from(vec![0; crate::MESSAGE_BYTES_MAX]);
        let mut put = 0;
        while inbox.put(piece.clone()) == Ok(()) {
            put += 1;
        }
        assert!((20..=24).contains(&put), "{put}");
        let held = messages.try_recv().unwrap();
        assert_eq!(inbox.put(piece.clone()), Err(Refused::Full));
        drop(held);
        assert_eq!(inbox.put(piece.clone()), Ok(()));
        drop(messages);
        assert_eq!(inbox.count.load(Ordering::Relaxed), 0);
        assert_eq!(inbox.put(piece), Err(Refused::Ended));
    }
}
