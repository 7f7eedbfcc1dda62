//! The way of messages to the server.

use ambidex_wire::session::Message;
use tokio::sync::mpsc;

/// Messages that wait for the websocket. Few: who sends much waits here, not in memory.
const WAITING_MAX: usize = 16;
/// Answers of the reading loop that may wait; more are dropped. They answer mistakes.
const ANSWERS_MAX: usize = 256;

/// What the websocket is to send.
#[derive(Debug)]
pub(crate) enum Out {
    /// A message.
    Message(Vec<u8>),
    /// A question whether the server is there.
    Ping,
    /// A goodbye: code and reason. The last one.
    Close(u16, String),
}

/// Sends messages; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    data: mpsc::Sender<Out>,
    answers: mpsc::Sender<Out>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Queue {
    data: mpsc::Receiver<Out>,
    answers: mpsc::Receiver<Out>,
}

/// The connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the server has ended")]
pub(crate) struct Gone;

pub(crate) fn pair() -> (Outgoing, Queue) {
    let (data, data_queue) = mpsc::channel(WAITING_MAX);
    let (answers, answers_queue) = mpsc::channel(ANSWERS_MAX);
    (
        Outgoing { data, answers },
        Queue {
            data: data_queue,
            answers: answers_queue,
        },
    )
}

impl Outgoing {
    /// Sends, waiting for room.
    pub(crate) async fn send(&self, message: &Message) -> Result<(), Gone> {
        self.send_bytes(message.encode()).await
    }

    /// Sends an encoded message, waiting for room.
    pub(crate) async fn send_bytes(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.data.send(Out::Message(bytes)).await.map_err(|_| Gone)
    }

    /// Sends from a thread that may wait.
    pub(crate) fn send_blocking(&self, message: &Message) -> Result<(), Gone> {
        let out = Out::Message(message.encode());
        self.data.blocking_send(out).map_err(|_| Gone)
    }

    /// Room for one message, for those who must do other things while they wait.
    pub(crate) async fn room(&self) -> Result<mpsc::Permit<'_, Out>, Gone> {
        self.data.reserve().await.map_err(|_| Gone)
    }

    /// Sends without waiting: for the reading loop, which must never wait for the writing one.
    pub(crate) fn answer(&self, message: &Message) {
        if self
            .answers
            .try_send(Out::Message(message.encode()))
            .is_err()
        {
            log::debug!("an answer to a remote session was dropped: too many wait");
        }
    }

    /// Asks for a sign of life. Where too much waits to be sent, whether that is taken shows it.
    pub(crate) fn ping(&self) {
        let _ = self.answers.try_send(Out::Ping);
    }

    /// Says goodbye, behind everything that waits.
    pub(crate) async fn close(&self, code: u16, reason: &str) {
        let _ = self.data.send(Out::Close(code, reason.to_owned())).await;
    }
}

impl Queue {
    /// The next one; `None` when nobody can send any more.
    pub(crate) async fn next(&mut self) -> Option<Out> {
        tokio::select! {
            biased;
            Some(out) = self.answers.recv() => Some(out),
            out = self.data.recv() => out,
        }
    }

    /// One that is there already.
    pub(crate) fn ready(&mut self) -> Option<Out> {
        self.answers
            .try_recv()
            .or_else(|_| self.data.try_recv())
            .ok()
    }
}
