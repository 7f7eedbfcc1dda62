//! What one subscriber has not taken yet.
//!
//! Many producers, one consumer. The mutex is held for moments only, never across an await. `ready` is a
//! stored permit: a message that arrives between the consumer's look and its wait is not slept through.
//! `room` wakes every waiting producer, because the one that fits may not be the one that waits longest.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::Message;

/// Messages of this instance that may wait; a producer waits for room beyond.
pub(crate) const LOCAL_MESSAGES_MAX: usize = 256;
/// Bytes of this instance that may wait.
pub(crate) const LOCAL_BYTES_MAX: usize = 1 << 20;
/// Messages of other instances that may wait: nothing holds up their producer, so there are more.
pub(crate) const REMOTE_MESSAGES_MAX: usize = 8192;
/// Bytes of other instances that may wait.
pub(crate) const REMOTE_BYTES_MAX: usize = 16 << 20;
/// How long a producer waits for a subscriber that takes nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Notify,
    room: Notify,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    closed: bool,
    lagged: bool,
}

impl State {
    /// An empty queue takes a message of any size.
    fn has_room(&self, payload: usize, messages_max: usize, bytes_max: usize) -> bool {
        self.messages.is_empty()
            || (self.messages.len() < messages_max && self.bytes + payload <= bytes_max)
    }

    fn push(&mut self, message: Message) {
        self.bytes += message.payload.len();
        self.messages.push_back(message);
    }
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue {
            state: Mutex::default(),
            ready: Notify::new(),
            room: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends, waiting for room; a subscriber that gives none in [`PATIENCE`] is cut off. Whether the
    /// message was taken.
    pub(crate) async fn send(&self, message: Message) -> bool {
        let mut message = Some(message);
        if let Some(taken) = self.offer(&mut message) {
            return taken;
        }
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the look, so that room made in between is not missed.
            room.as_mut().enable();
            if let Some(taken) = self.offer(&mut message) {
                return taken;
            }
            tokio::select! {
                () = room => {}
                () = &mut patience => {
                    self.lag();
                    return false;
                }
            }
        }
    }

    /// `None`: no room at the moment.
    fn offer(&self, message: &mut Option<Message>) -> Option<bool> {
        let mut state = self.state();
        if state.closed {
            return Some(false);
        }
        let payload = message.as_ref().map_or(0, |m| m.payload.len());
        if !state.has_room(payload, LOCAL_MESSAGES_MAX, LOCAL_BYTES_MAX) {
            return None;
        }
        if let Some(message) = message.take() {
            state.push(message);
        }
        drop(state);
        self.ready.notify_one();
        Some(true)
    }

    /// Appends what came from another instance; a subscriber without room is cut off.
    pub(crate) fn receive(&self, message: Message) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if !state.has_room(message.payload.len(), REMOTE_MESSAGES_MAX, REMOTE_BYTES_MAX) {
            drop(state);
            self.lag();
            return;
        }
        state.push(message);
        drop(state);
        self.ready.notify_one();
    }

    /// The next message; `None` when the queue is closed and empty.
    pub(crate) async fn next(&self) -> Option<Message> {
        loop {
            let ready = self.ready.notified();
            {
                let mut state = self.state();
                if let Some(message) = state.messages.pop_front() {
                    state.bytes -= message.payload.len();
                    drop(state);
                    self.room.notify_waiters();
                    return Some(message);
                }
                if state.closed {
                    return None;
                }
            }
            ready.await;
        }
    }

    /// Takes nothing any more and forgets what waits.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.state();
            state.closed = true;
            state.bytes = 0;
            std::mem::take(&mut state.messages)
        };
        self.ready.notify_one();
        self.room.notify_waiters();
        // Outside of the lock: a message may own other things of the bus.
        drop(dropped);
    }

    /// A gap in a stream is worse than its end: what waits is still handed out, then it is over.
    fn lag(&self) {
        let mut state = self.state();
        state.closed = true;
        state.lagged = true;
        drop(state);
        self.ready.notify_one();
        self.room.notify_waiters();
    }

    pub(crate) fn lagged(&self) -> bool {
        self.state().lagged
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.state().closed
    }
}
