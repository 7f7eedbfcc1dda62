//! From a message to the session it belongs to. Never waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ambidex_wire::session::{
    Message, MessageRef, PROTO_CLIENT, PROTO_CONTROL, PROTO_SHELL, SessionError, client, control,
    shell as wire,
};
use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use crate::inbox::{self, Inbox, Refused};
use crate::outgoing::Outgoing;
use crate::session::Session;
use crate::shell::Shells;
use crate::{Shared, Wish};

/// Sessions of one connection. A server lets a user have as many.
const SESSIONS_MAX: usize = 64;
/// How long sessions may take to end; then they are cut short, which kills what they have started.
const END_LIMIT: Duration = Duration::from_secs(10);

struct Entry {
    inbox: Inbox,
    task: Id,
}

pub(crate) struct Router {
    shared: Arc<Shared>,
    out: Outgoing,
    sessions: HashMap<String, Entry>,
    shells: Shells,
    tasks: JoinSet<()>,
}

impl Router {
    pub(crate) fn new(shared: &Arc<Shared>, out: Outgoing) -> Router {
        Router {
            shells: Shells::new(shared, out.clone()),
            shared: Arc::clone(shared),
            out,
            sessions: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Takes a message of the server to where it belongs.
    pub(crate) fn take(&mut self, bytes: Bytes) -> Result<(), SessionError> {
        let message = MessageRef::decode(&bytes)?;
        match message.proto {
            PROTO_SHELL if self.shared.settings.terminal.enabled => {
                let props = message.props()?;
                self.shells.take(&message, &props, &bytes, &mut self.tasks);
            }
            PROTO_SHELL => self.out.answer(&no_handler(&message)?),
            PROTO_CLIENT if self.shared.settings.commands => self.command(&message)?,
            PROTO_CLIENT => self.out.answer(&no_handler(&message)?),
            _ => {
                let head = Head::of(&message);
                self.route(head, bytes);
            }
        }
        Ok(())
    }

    fn command(&self, message: &MessageRef<'_>) -> Result<(), SessionError> {
        let wish = match message.typ {
            client::CHECK_UPDATE => Wish::CheckUpdate,
            client::SEND_INVENTORY => Wish::SendInventory,
            _ => {
                self.out.answer(&no_handler(message)?);
                return Ok(());
            }
        };
        log::info!("a user asks for '{}'", message.typ);
        // a full queue holds the same wish already
        let told = !matches!(
            self.shared.wishes.try_send(wish),
            Err(TrySendError::Closed(_))
        );
        let answer = Message::new(PROTO_CLIENT, message.typ, message.sid);
        self.out.answer(&if told {
            answer.prop(wire::STATUS, wire::STATUS_NORMAL)
        } else {
            answer
                .prop(wire::STATUS, wire::STATUS_ERROR)
                .body("the update daemon has ended")
        });
        Ok(())
    }

    fn route(&mut self, head: Head, bytes: Bytes) {
        if let Some(entry) = self.sessions.get(&head.sid) {
            match entry.inbox.put(bytes.clone()) {
                Ok(()) => return,
                Err(Refused::Full) => {
                    log::warn!(
                        "a remote session sends more than this device can take; it is ended"
                    );
                    self.sessions.remove(&head.sid);
                    let reason = "more was sent than the windows allow";
                    self.out
                        .answer(&control::Failure::closing(reason).message(&head.sid));
                    return;
                }
                // it has ended by itself: this message begins another one
                Err(Refused::Ended) => {
                    self.sessions.remove(&head.sid);
                }
            }
        }
        if !head.begins {
            return;
        }
        if self.sessions.len() >= SESSIONS_MAX {
            let reason = format!("this device has {SESSIONS_MAX} sessions already");
            self.out
                .answer(&control::Failure::closing(&reason).message(&head.sid));
            return;
        }
        let (inbox, messages) = inbox::pair();
        // an empty queue takes any message
        let _ = inbox.put(bytes);
        let session = Session::new(&self.shared, self.out.clone(), head.sid.clone());
        let task = self.tasks.spawn(session.run(messages)).id();
        self.sessions.insert(head.sid, Entry { inbox, task });
    }

    /// Waits for the end of some session and forgets it.
    pub(crate) async fn reap(&mut self) {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(ended) => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        if !error.is_cancelled() {
                            log::error!("a remote session ended abnormally: {error}");
                        }
                        error.id()
                    }
                };
                self.sessions.retain(|_, entry| entry.task != id);
            }
        }
    }

    /// Tells every session why it ends.
    pub(crate) async fn farewell(&mut self, reason: &str) {
        self.shells.farewell(reason).await;
        for sid in std::mem::take(&mut self.sessions).into_keys() {
            let failure = control::Failure::closing(reason);
            if self.out.send(&failure.message(&sid)).await.is_err() {
                return;
            }
        }
    }

    /// Ends every session and waits for that.
    pub(crate) async fn end(mut self) {
        self.sessions.clear();
        self.shells.end();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(END_LIMIT, all).await.is_err() {
            log::warn!("remote sessions did not end in time; they are cut short");
            self.tasks.shutdown().await;
        }
    }
}

/// What routing needs to know of a message.
struct Head {
    sid: String,
    /// Whether it may begin a session: what ends one, or answers us, does not.
    begins: bool,
}

impl Head {
    fn of(message: &MessageRef<'_>) -> Head {
        let late = message.proto == PROTO_CONTROL
            && [control::CLOSE, control::PONG, control::ERROR].contains(&message.typ);
        Head {
            sid: message.sid.to_owned(),
            begins: !late,
        }
    }
}

/// The answer to a message that nobody here understands.
pub(crate) fn no_handler(message: &MessageRef<'_>) -> Result<Message, SessionError> {
    let text = format!(
        "no handler registered for protocol: 0x{:04X}",
        message.proto
    );
    refusal(message, text)
}

/// An error that answers a message and leaves its session open.
pub(crate) fn refusal(message: &MessageRef<'_>, text: String) -> Result<Message, SessionError> {
    let msgid = message.props()?.text(control::MSGID).map(str::to_owned);
    let failure = control::Failure {
        err: text,
        close: false,
        msgproto: Some(message.proto),
        msgtype: Some(message.typ.to_owned()),
        msgid,
        code: None,
    };
    Ok(failure.message(message.sid))
}
