//! Connections through a device: the port forward protocol, from the user's end.
//!
//! Each connection has an id in every message. Data goes one message at a time in either direction: the
//! next one only after the acknowledgement of the last. [`Connections`] takes the messages of a session
//! to their connections; whoever reads the session calls [`Connections::take`]. A [`Connection`] that is
//! dropped tells the device to close.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_FORWARD, control, forward};
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::socket::{ANSWER_LIMIT, Sender, Session, plain};

/// Data of one message to devices that announce large ones. A message is a round trip.
const DATA_BYTES_MAX: usize = 128 << 10;
/// Messages for a connection that wait; peers that keep to the protocol have two under way.
const INBOX_MESSAGES: usize = 64;
/// After the end of the local side: how long answers are still waited for. The protocol cannot tell the
/// far side that nothing follows, only that all is over.
const LINGER: Duration = Duration::from_secs(2);

type Routes = HashMap<String, mpsc::Sender<Message>>;

/// The connections of one session.
#[derive(Clone)]
pub struct Connections {
    sender: Sender,
    routes: Arc<Mutex<Routes>>,
    pub data_bytes: usize,
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
            data_bytes: session.content_bytes(forward::DATA_BYTES, DATA_BYTES_MAX),
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
        if message.proto != PROTO_FORWARD {
            return;
        }
        let Some(id) = message
            .props
            .text(forward::CONNECTION_ID)
            .map(str::to_owned)
        else {
            return;
        };
        let mut routes = self.routes();
        // A full inbox is a device that does not wait for acknowledgements: that connection ends.
        let taken = routes
            .get(&id)
            .is_none_or(|route| route.try_send(message).is_ok());
        if !taken {
            routes.remove(&id);
        }
    }

    /// Has the device connect. The reason if it cannot.
    pub async fn connect(&self, to: &forward::Connect) -> Result<Connection, String> {
        let id = uuid::Uuid::new_v4().to_string();
        let (route, inbox) = mpsc::channel(INBOX_MESSAGES);
        self.routes().insert(id.clone(), route);
        let mut connection = Connection {
            id,
            inbox,
            connections: self.clone(),
            open: true,
        };
        const GONE: &str = "the session has ended";
        if !self.sender.send(to.message("", &connection.id)).await {
            return Err(GONE.to_owned());
        }
        match timeout(ANSWER_LIMIT, connection.inbox.recv()).await {
            Ok(Some(message)) if message.typ == forward::NEW => Ok(connection),
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

/// An open connection.
pub struct Connection {
    id: String,
    inbox: mpsc::Receiver<Message>,
    connections: Connections,
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

impl Connection {
    /// Moves data both ways until either side has ended. An error is one of this side, or the device's
    /// words.
    pub async fn pump(
        mut self,
        mut source: impl Source,
        mut drain: impl Drain,
    ) -> Result<(), String> {
        let Self {
            id,
            inbox,
            connections,
            open,
        } = &mut self;
        let message = |typ: &str| forward::message(typ, "", id);
        let sender = &connections.sender;
        let may_send = Semaphore::new(1);
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
                    forward::ACK => may_send.add_permits(1),
                    forward::STOP => {
                        *open = false;
                        return Ok(());
                    }
                    forward::ERROR => {
                        let failure = forward::Failure::decode(&message.body).unwrap_or_default();
                        return Err(plain(&failure.err));
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let deliver = async {
            while let Some(data) = arrived.recv().await {
                let written = drain.write(data).await;
                written.map_err(|error| error.to_string())?;
                sender.send(message(forward::ACK)).await;
            }
            drain.end().await;
            Ok(())
        };
        let collect = async {
            let mut buffer = vec![0; connections.data_bytes];
            loop {
                let Ok(permit) = may_send.acquire().await else {
                    return Ok(());
                };
                permit.forget();
                match source.read(&mut buffer).await {
                    Ok(0) => break,
                    Ok(count) => {
                        touch();
                        let forward = message(forward::FORWARD).body(&buffer[..count]);
                        sender.send(forward).await;
                    }
                    Err(error) => return Err(error.to_string()),
                }
            }
            loop {
                let last = *active.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINGER {
                    return Ok(());
                }
                sleep_until(last + LINGER).await;
            }
        };
        tokio::select! {
            ended = async { tokio::try_join!(sort, deliver) } => ended.map(drop),
            ended = collect => ended,
        }
    }
}
