//! One session that is no shell: its handshake, its signs of life, its transfer and its connections.
//!
//! A task of its own. It ends when its queue is closed (the connection has ended), when the user closes it
//! or is silent for too long. Its transfer and its forwarded connections are tasks that it owns: they end
//! with it.

use std::sync::Arc;

use ambidex_wire::session::{
    Message, MessageRef, PROTO_CONTROL, PROTO_FILE, PROTO_FORWARD, VERSION, control,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

use crate::Shared;
use crate::files::Files;
use crate::forward::Forwards;
use crate::inbox::Incoming;
use crate::outgoing::{Gone, Outgoing};
use crate::router::{no_handler, refusal};

pub(crate) struct Session {
    shared: Arc<Shared>,
    out: Outgoing,
    sid: String,
    files: Files,
    forwards: Forwards,
}

/// What to do after a message.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Stay,
    End,
}

impl From<Gone> for Next {
    fn from(_: Gone) -> Next {
        Next::End
    }
}

impl Session {
    pub(crate) fn new(shared: &Arc<Shared>, out: Outgoing, sid: String) -> Session {
        Session {
            files: Files::new(shared, out.clone()),
            forwards: Forwards::new(shared, out.clone()),
            shared: Arc::clone(shared),
            out,
            sid,
        }
    }

    pub(crate) async fn run(mut self, mut messages: UnboundedReceiver<Incoming>) {
        let times = self.shared.settings.times;
        let mut heard = Instant::now();
        let mut asked = false;
        loop {
            let deadline = heard + times.session_ping;
            let deadline = if asked {
                deadline + times.session_patience
            } else {
                deadline
            };
            let next = tokio::select! {
                incoming = messages.recv() => match incoming {
                    None => Next::End,
                    Some(incoming) => {
                        heard = Instant::now();
                        asked = false;
                        self.take(incoming).await.unwrap_or(Next::End)
                    }
                },
                () = self.forwards.reap() => Next::Stay,
                () = sleep_until(deadline) => {
                    let silent = asked;
                    asked = true;
                    self.miss(silent).await.unwrap_or(Next::End)
                }
            };
            if next == Next::End {
                return;
            }
        }
    }

    /// The user has not been heard for a while.
    async fn miss(&self, silent: bool) -> Result<Next, Gone> {
        if silent {
            let failure = control::Failure::closing("session timeout");
            self.out.send(&failure.message(&self.sid)).await?;
            return Ok(Next::End);
        }
        let ping = Message::new(PROTO_CONTROL, control::PING, &self.sid);
        self.out.send(&ping).await?;
        Ok(Next::Stay)
    }

    async fn take(&mut self, incoming: Incoming) -> Result<Next, Gone> {
        // checked when it was read
        let Ok(message) = incoming.message() else {
            return Ok(Next::Stay);
        };
        let settings = &self.shared.settings;
        match message.proto {
            PROTO_CONTROL => self.control(&message).await,
            PROTO_FILE if settings.file_transfer.enabled => {
                self.files.take(incoming).await?;
                Ok(Next::Stay)
            }
            PROTO_FORWARD if settings.port_forward.enabled => {
                self.forwards.take(incoming).await?;
                Ok(Next::Stay)
            }
            _ => {
                if let Ok(answer) = no_handler(&message) {
                    self.out.send(&answer).await?;
                }
                Ok(Next::Stay)
            }
        }
    }

    async fn control(&self, message: &MessageRef<'_>) -> Result<Next, Gone> {
        match message.typ {
            control::PING => {
                let pong = Message::new(PROTO_CONTROL, control::PONG, &self.sid);
                self.out.send(&pong).await?;
                Ok(Next::Stay)
            }
            control::PONG => Ok(Next::Stay),
            control::OPEN => self.open(message).await,
            control::CLOSE => Ok(Next::End),
            control::ERROR => {
                let failure = control::Failure::decode(message.body).unwrap_or_default();
                log::debug!("a user's side tells of an error: {}", failure.err);
                Ok(if failure.close { Next::End } else { Next::Stay })
            }
            other => {
                let text = format!("unknown control message type: {other}");
                if let Ok(answer) = refusal(message, text) {
                    self.out.send(&answer).await?;
                }
                Ok(Next::Stay)
            }
        }
    }

    async fn open(&self, message: &MessageRef<'_>) -> Result<Next, Gone> {
        let refused = match control::Open::decode(message.body) {
            Ok(open) if open.versions.contains(&VERSION) => None,
            Ok(_) => Some(format!("require version {VERSION}")),
            Err(error) => Some(format!("cannot understand 'open': {error}")),
        };
        if let Some(reason) = refused {
            let failure = control::Failure {
                msgproto: Some(message.proto),
                msgtype: Some(message.typ.to_owned()),
                ..control::Failure::closing(&reason)
            };
            self.out.send(&failure.message(&self.sid)).await?;
            return Ok(Next::End);
        }
        // a directory of users may take its time
        let shared = Arc::clone(&self.shared);
        let protocols = tokio::task::spawn_blocking(move || shared.settings.protocols()).await;
        let accept = control::Accept {
            version: VERSION,
            protocols: protocols.unwrap_or_default(),
        };
        self.out.send(&accept.message(&self.sid)).await?;
        Ok(Next::Stay)
    }
}
