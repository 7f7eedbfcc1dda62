//! Connections through a device: the port forward protocol, from the user's end.
//!
//! Each connection has an id in every message. Every message with data is acknowledged. Devices of the
//! reference have one under way in each direction, ours a window of them. [`Connections`] takes the messages of a session
//! to their connections; whoever reads the session calls [`Connections::take`]. A [`Connection`] that is
//! dropped tells the device to close.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_FORWARD, control, forward};
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::socket::{ANSWER_LIMIT, Sender, Session, plain};

/// Messages for a connection that wait: a window, and what is said besides.
const INBOX_MESSAGES: usize = 2 * forward::WINDOW_MAX;
/// Data under way to the device in all connections of a session together, beyond one message of each.
/// Devices count what waits in a session, and end those that have more than they hold.
const BUDGET_KIB: usize = 768;
/// After the end of the local side: how long answers are still waited for. The protocol cannot tell the
/// far side that nothing follows, only that all is over.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Routes {
    connections: HashMap<String, mpsc::Sender<Message>>,
    /// Those that the device has not answered yet, in the order in which it was asked.
    asked: VecDeque<String>,
}

impl Routes {
    fn insert(&mut self, id: &str, route: mpsc::Sender<Message>) {
        self.connections.insert(id.to_owned(), route);
        self.asked.push_back(id.to_owned());
    }

    fn remove(&mut self, id: &str) {
        self.connections.remove(id);
        self.answered(id);
    }

    fn answered(&mut self, id: &str) {
        self.asked.retain(|asked| asked != id);
    }

    /// The connection that a message is about. The reference's refusals do not name it; it answers in
    /// the order of the questions.
    fn meant(&self, message: &Message) -> Option<String> {
        if let Some(id) = message.props.text(forward::CONNECTION_ID) {
            return Some(id.to_owned());
        }
        let failure = forward::Failure::decode(&message.body).ok()?;
        let refused =
            message.typ == forward::ERROR && failure.msgtype.as_deref() == Some(forward::NEW);
        self.asked.front().filter(|_| refused).cloned()
    }

    fn take(&mut self, message: Message) {
        let Some(id) = self.meant(&message) else {
            return;
        };
        self.answered(&id);
        // A full inbox is a device that does not wait for acknowledgements: that connection ends.
        let taken = self
            .connections
            .get(&id)
            .is_none_or(|route| route.try_send(message).is_ok());
        if !taken {
            self.connections.remove(&id);
        }
    }
}

/// The connections of one session.
#[derive(Clone)]
pub struct Connections {
    sender: Sender,
    routes: Arc<Mutex<Routes>>,
    /// Data of one message to devices that have a window.
    data_bytes: usize,
    budget: Arc<Semaphore>,
}

/// Where data for the device comes from.
pub trait Source {
    /// Data, at most as much as fits; none at the end.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Where data of the device goes.
pub trait Drain {
    async fn write(&mut self, data: Vec<u8>) -> io::Result<()>;
    /// Nothing follows.
    async fn end(&mut self);
}

impl Source for OwnedReadHalf {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        AsyncReadExt::read(self, buffer).await
    }
}

impl Drain for OwnedWriteHalf {
    async fn write(&mut self, data: Vec<u8>) -> io::Result<()> {
        self.write_all(&data).await
    }

    async fn end(&mut self) {
        // It may be closed already.
        drop(self.shutdown().await);
    }
}

impl Connections {
    pub fn of(session: &Session) -> Self {
        Self {
            sender: session.sender(),
            routes: Arc::default(),
            data_bytes: session.content_bytes(forward::DATA_BYTES, forward::WINDOW_DATA_BYTES),
            budget: Arc::new(Semaphore::new(BUDGET_KIB)),
        }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message to its connection.
    pub fn take(&self, message: Message) {
        if message.proto == PROTO_CONTROL && message.typ == control::ERROR {
            let failure = control::Failure::decode(&message.body).unwrap_or_default();
            eprintln!("ambidex: the device reports: {}", plain(&failure.err));
            return;
        }
        if message.proto == PROTO_FORWARD {
            self.routes().take(message);
        }
    }

    /// Has the device connect. The reason if it cannot.
    pub async fn connect(&self, to: &forward::Connect) -> Result<Connection, String> {
        let id = uuid::Uuid::new_v4().to_string();
        let (route, inbox) = mpsc::channel(INBOX_MESSAGES);
        self.routes().insert(&id, route);
        let mut connection = Connection {
            id,
            inbox,
            connections: self.clone(),
            window: 1,
            open: true,
        };
        const GONE: &str = "the session has ended";
        let new = to
            .message("", &connection.id)
            .prop(forward::WINDOW, forward::WINDOW_MAX as u64);
        if !self.sender.send(new).await {
            return Err(GONE.to_owned());
        }
        match timeout(ANSWER_LIMIT, connection.inbox.recv()).await {
            Ok(Some(message)) if message.typ == forward::NEW => {
                connection.window = window(&message);
                Ok(connection)
            }
            Ok(Some(message)) => {
                connection.open = false;
                let failure = forward::Failure::decode(&message.body).unwrap_or_default();
                Err(match plain(&failure.err) {
                    text if text.is_empty() => "the device has closed it at once".to_owned(),
                    text => text,
                })
            }
            Ok(None) => Err(GONE.to_owned()),
            Err(_) => Err(format!(
                "the device has not answered for {} s",
                ANSWER_LIMIT.as_secs()
            )),
        }
    }
}

/// How many messages the device takes at once: its answer to what we asked for.
fn window(answer: &Message) -> usize {
    answer
        .props
        .int(forward::WINDOW)
        .and_then(|window| usize::try_from(window).ok())
        .unwrap_or(1)
        .clamp(1, forward::WINDOW_MAX)
}

/// An open connection.
pub struct Connection {
    id: String,
    inbox: mpsc::Receiver<Message>,
    connections: Connections,
    window: usize,
    /// The far side has not closed it.
    open: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.routes().remove(&self.id);
        if self.open {
            let stop = forward::message(forward::STOP, "", &self.id);
            self.connections.sender.send_now(stop);
        }
    }
}

/// Messages that are not acknowledged yet, oldest first, and what each holds of the budget.
#[derive(Default)]
struct UnderWay {
    messages: Mutex<VecDeque<Option<OwnedSemaphorePermit>>>,
    acknowledged: Notify,
}

impl UnderWay {
    fn messages(&self) -> MutexGuard<'_, VecDeque<Option<OwnedSemaphorePermit>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledge(&self) {
        self.messages().pop_front();
        self.acknowledged.notify_one();
    }

    /// Waits until another message may be sent, and counts it. The first one is always free, so that no
    /// connection starves.
    async fn room(&self, window: usize, bytes: usize, budget: &Arc<Semaphore>) {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        loop {
            {
                let mut messages = self.messages();
                if messages.is_empty() {
                    return messages.push_back(None);
                }
                if messages.len() < window
                    && let Ok(share) = Arc::clone(budget).try_acquire_many_owned(kib)
                {
                    return messages.push_back(Some(share));
                }
            }
            self.acknowledged.notified().await;
        }
    }
}

impl Connection {
    /// Moves data both ways until either side has ended. An error is the device's words; that this side
    /// breaks is one of the ways to end.
    pub async fn pump(
        mut self,
        mut source: impl Source,
        mut drain: impl Drain,
    ) -> Result<(), String> {
        const BROKEN_HERE: Option<String> = None;
        let Self {
            id,
            inbox,
            connections,
            window,
            open,
        } = &mut self;
        let message = |typ: &str| forward::message(typ, "", id);
        let sender = &connections.sender;
        let under_way = UnderWay::default();
        let active = Mutex::new(Instant::now());
        let touch = || *active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let (data, mut arrived) = mpsc::channel::<Vec<u8>>(INBOX_MESSAGES);

        // Acknowledgements must not wait behind data that the local side does not take.
        let sort = async {
            let data = data;
            while let Some(message) = inbox.recv().await {
                touch();
                match message.typ.as_str() {
                    forward::FORWARD => drop(data.send(message.body).await),
                    forward::ACK => under_way.acknowledge(),
                    forward::STOP => {
                        *open = false;
                        return Ok(());
                    }
                    forward::ERROR => {
                        let failure = forward::Failure::decode(&message.body).unwrap_or_default();
                        return Err(Some(plain(&failure.err)));
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let deliver = async {
            while let Some(data) = arrived.recv().await {
                drain.write(data).await.map_err(|_| BROKEN_HERE)?;
                sender.send(message(forward::ACK)).await;
            }
            drain.end().await;
            Ok(())
        };
        let collect = async {
            let data_bytes = if *window > 1 {
                connections.data_bytes
            } else {
                forward::DATA_BYTES
            };
            let mut buffer = vec![0; data_bytes];
            loop {
                under_way
                    .room(*window, data_bytes, &connections.budget)
                    .await;
                match source.read(&mut buffer).await {
                    Ok(0) => break,
                    Ok(count) => {
                        touch();
                        let forward = message(forward::FORWARD).body(&buffer[..count]);
                        sender.send(forward).await;
                    }
                    Err(_) => return,
                }
            }
            loop {
                let last = *active.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINGER {
                    return;
                }
                sleep_until(last + LINGER).await;
            }
        };
        tokio::select! {
            ended = async { tokio::try_join!(sort, deliver) } => match ended {
                Err(Some(why)) => Err(why),
                Ok(_) | Err(None) => Ok(()),
            },
            () = collect => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn windows_are_what_the_device_answers() {
        for (answered, counts) in [
            (None, 1),
            (Some(0), 1),
            (Some(-1), 1),
            (Some(4), 4),
            (Some(1000), forward::WINDOW_MAX),
        ] {
            let mut answer = Message::new(PROTO_FORWARD, forward::NEW, "");
            if let Some(answered) = answered {
                answer = answer.prop(forward::WINDOW, answered);
            }
            assert_eq!(window(&answer), counts, "{answered:?}");
        }
    }

    #[test]
    fn refusals_without_a_name_belong_to_the_oldest_question() {
        let mut routes = Routes::default();
        let (route, mut first) = mpsc::channel(4);
        routes.insert("1", route);
        let (route, mut second) = mpsc::channel(4);
        routes.insert("2", route);
        let failure = forward::Failure {
            err: "connection refused".to_owned(),
            msgtype: Some(forward::NEW.to_owned()),
        };
        let mut refusal = failure.message("", "");
        refusal.props.remove(forward::CONNECTION_ID);
        routes.take(forward::message(forward::NEW, "", "1"));
        routes.take(refusal.clone());
        assert_eq!(first.try_recv().unwrap().typ, forward::NEW);
        assert!(first.try_recv().is_err());
        assert_eq!(second.try_recv().unwrap().typ, forward::ERROR);
        // There is no question left; of other things than questions nothing is known.
        routes.take(refusal);
        assert!(second.try_recv().is_err());
    }

    #[test]
    fn the_first_message_is_free_and_more_share_the_budget() {
        let budget = Arc::new(Semaphore::new(20));
        let (one, other) = (UnderWay::default(), UnderWay::default());
        let room = |way: &UnderWay| way.room(3, 16 << 10, &budget).now_or_never().is_some();
        assert!(room(&one) && room(&one), "one free, one of the budget");
        assert!(room(&other), "free");
        assert!(!room(&other) && !room(&one), "the budget is used up");
        one.acknowledge();
        assert!(!room(&other), "the free one was acknowledged");
        one.acknowledge();
        assert!(room(&other) && room(&one));
        assert!(!room(&one));
        let alone = Arc::new(Semaphore::new(1000));
        let way = UnderWay::default();
        let room = || way.room(3, 16 << 10, &alone).now_or_never().is_some();
        assert!(room() && room() && room() && !room(), "the window");
    }
}
