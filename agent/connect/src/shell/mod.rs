//! Shells: who may have one, and where their messages go.
//!
//! The table is shared with the shells' tasks: a shell frees its place *before* it tells of its end, so
//! whoever hears of the end can start another one at once.

pub(crate) mod remains;
mod run;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ambidex_wire::session::{MessageRef, Props, shell as wire};
use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;

use crate::Shared;
use crate::inbox::{self, Inbox, Refused};
use crate::outgoing::Outgoing;
use run::Shell;

/// Shells of this device at a time, as in the reference.
const SHELLS_MAX: usize = 16;

/// What a shell is told from outside of its session.
#[derive(Debug, Clone)]
enum Order {
    /// The user's side wants the end; it is answered as if it had said so in the session.
    Stop,
    /// End, and tell the user this.
    End(String),
}

struct Entry {
    user_id: String,
    inbox: Inbox,
    orders: UnboundedSender<Order>,
}

/// The shells of a connection, by session.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<String, Entry>>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // nothing in here panics half way through a change
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self, sid: &str) {
        self.lock().remove(sid);
    }
}

pub(crate) struct Shells {
    shared: Arc<Shared>,
    out: Outgoing,
    table: Table,
}

impl Shells {
    pub(crate) fn new(shared: &Arc<Shared>, out: Outgoing) -> Shells {
        Shells {
            shared: Arc::clone(shared),
            out,
            table: Table::default(),
        }
    }

    /// Takes a message to its shell, or starts one.
    pub(crate) fn take(
        &self,
        message: &MessageRef<'_>,
        props: &Props,
        bytes: &Bytes,
        tasks: &mut JoinSet<()>,
    ) {
        match message.typ {
            wire::NEW => self.start(message.sid, props, tasks),
            wire::STOP if message.sid.is_empty() => self.stop_all_of(props),
            _ => self.pass_on(message, bytes),
        }
    }

    fn refuse(&self, typ: &str, sid: &str, reason: &str) {
        let answer = wire::message(typ, sid, wire::STATUS_ERROR, reason.as_bytes());
        self.out.answer(&answer);
    }

    fn start(&self, sid: &str, props: &Props, tasks: &mut JoinSet<()>) {
        let user_id = props.text(wire::USER_ID).unwrap_or_default();
        let (inbox, messages) = inbox::pair();
        let (orders, told) = mpsc::unbounded_channel();
        {
            let mut table = self.table.lock();
            let of_user = table.values().filter(|e| e.user_id == user_id).count();
            let refused = if table.contains_key(sid) {
                Some("failed to start shell: shell is already running")
            } else if of_user >= self.shared.settings.sessions.max_per_user {
                Some("user has too many open sessions")
            } else if table.len() >= SHELLS_MAX {
                Some("too many shells spawned")
            } else {
                None
            };
            if let Some(reason) = refused {
                return self.refuse(wire::NEW, sid, reason);
            }
            let entry = Entry {
                user_id: user_id.to_owned(),
                inbox,
                orders,
            };
            table.insert(sid.to_owned(), entry);
        }
        let shell = Shell {
            shared: Arc::clone(&self.shared),
            out: self.out.clone(),
            sid: sid.to_owned(),
            user_id: user_id.to_owned(),
            size: wire::size(props).unwrap_or(self.shared.settings.terminal.size),
            table: self.table.clone(),
        };
        tasks.spawn(shell.run(messages, told));
    }

    fn stop_all_of(&self, props: &Props) {
        let user_id = props.text(wire::USER_ID).unwrap_or_default();
        if user_id.is_empty() {
            let reason = "StopShellMessage: sessionId not given and userId empty";
            return self.refuse(wire::STOP, "", reason);
        }
        for entry in self.table.lock().values() {
            if entry.user_id == user_id {
                let _ = entry.orders.send(Order::Stop);
            }
        }
    }

    fn pass_on(&self, message: &MessageRef<'_>, bytes: &Bytes) {
        let put = self.table.lock().get(message.sid).map(|entry| {
            let put = entry.inbox.put(bytes.clone());
            match (put, message.typ) {
                (Err(Refused::Full), wire::STOP) => {
                    let _ = entry.orders.send(Order::Stop);
                }
                (Err(Refused::Full), _) => {
                    let reason = "the shell does not take its input: it was stopped".to_owned();
                    let _ = entry.orders.send(Order::End(reason));
                }
                (Ok(()) | Err(Refused::Ended), _) => {}
            }
        });
        if put.is_some() {
            return;
        }
        match message.typ {
            wire::SHELL | wire::STOP => {
                self.refuse(message.typ, message.sid, "session not found");
            }
            // late ones of a shell that has just ended
            wire::RESIZE | wire::PONG | wire::PING => {}
            other => {
                let reason = format!(
                    "unknown message protocol and type: {}/{other}",
                    message.proto
                );
                self.refuse(other, message.sid, &reason);
            }
        }
    }

    /// Tells every shell's user why it ends.
    pub(crate) async fn farewell(&self, reason: &str) {
        let sids: Vec<String> = self.table.lock().keys().cloned().collect();
        for sid in sids {
            let stop = wire::message(wire::STOP, &sid, wire::STATUS_ERROR, reason.as_bytes());
            if self.out.send(&stop).await.is_err() {
                return;
            }
        }
    }

    /// Ends every shell: its queue is closed.
    pub(crate) fn end(&self) {
        self.table.lock().clear();
    }
}
