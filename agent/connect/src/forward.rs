//! Connections that a user has forwarded through this device.
//!
//! Every connection is a task. It takes data from its queue to the network and acknowledges it once the
//! network has it; it reads the network no further than the user's side has acknowledged. The reference has
//! one message under way in each direction; a peer that asks for a window gets one.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambidex_wire::session::{Message, MessageRef, Props, forward as wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::Shared;
use crate::inbox::Incoming;
use crate::outgoing::{Gone, Outgoing};

/// Connections of one session.
const CONNECTIONS_MAX: usize = 256;
/// What a network connection still gets after the user's side has closed it.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_507;
const TCP: &str = "tcp";
const UDP: &str = "udp";

struct Entry {
    sender: UnboundedSender<Incoming>,
    task: Id,
}

/// The forwarded connections of one session.
pub(crate) struct Forwards {
    shared: Arc<Shared>,
    out: Outgoing,
    connections: HashMap<String, Entry>,
    tasks: JoinSet<()>,
}

impl Forwards {
    pub(crate) fn new(shared: &Arc<Shared>, out: Outgoing) -> Forwards {
        Forwards {
            shared: Arc::clone(shared),
            out,
            connections: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Forgets connections that have ended. Never returns where nothing can end.
    pub(crate) async fn reap(&mut self) {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(ended) => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                self.connections.retain(|_, entry| entry.task != id);
            }
        }
    }

    pub(crate) async fn take(&mut self, incoming: Incoming) -> Result<(), Gone> {
        // checked when it was read
        let Ok(message) = incoming.message() else {
            return Ok(());
        };
        let props = message.props().unwrap_or_default();
        let Some(id) = props.text(wire::CONNECTION_ID).filter(|id| !id.is_empty()) else {
            return self.refuse(&message, "", "no connection_id").await;
        };
        let id = id.to_owned();
        match message.typ {
            wire::NEW => match self.open(&message, &id, props) {
                Ok(()) => Ok(()),
                Err(reason) => self.refuse(&message, &id, &reason).await,
            },
            wire::FORWARD | wire::ACK | wire::STOP => {
                let typ = message.typ.to_owned();
                let sid = message.sid.to_owned();
                let sent = match self.connections.get(&id) {
                    Some(entry) => entry.sender.send(incoming).is_ok(),
                    None => false,
                };
                // an acknowledgement that comes late is no mistake
                if sent || typ == wire::ACK {
                    return Ok(());
                }
                self.connections.remove(&id);
                let failure = failure("unknown connection", &typ);
                self.out.send(&failure.message(&sid, &id)).await
            }
            wire::ERROR => {
                self.connections.remove(&id);
                Ok(())
            }
            other => {
                let reason = format!("unknown message type: {other}");
                self.refuse(&message, &id, &reason).await
            }
        }
    }

    async fn refuse(&self, message: &MessageRef<'_>, id: &str, reason: &str) -> Result<(), Gone> {
        let failure = failure(reason, message.typ);
        self.out.send(&failure.message(message.sid, id)).await
    }

    fn open(&mut self, message: &MessageRef<'_>, id: &str, props: Props) -> Result<(), String> {
        let to = wire::Connect::decode(message.body).map_err(|error| error.to_string())?;
        if to.remote_host.is_empty() || to.remote_port == 0 {
            return Err("remote_host and remote_port must be given".to_owned());
        }
        if to.protocol != TCP && to.protocol != UDP {
            return Err(format!("unknown protocol: {}", to.protocol));
        }
        if self.connections.contains_key(id) {
            return Err("this connection_id is in use".to_owned());
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(format!(
                "this session has {CONNECTIONS_MAX} connections already"
            ));
        }
        let asked = props
            .int(wire::WINDOW)
            .and_then(|n| usize::try_from(n).ok());
        let asked = asked.filter(|window| *window > 0);
        let (sender, messages) = mpsc::unbounded_channel();
        let connection = Connection {
            shared: Arc::clone(&self.shared),
            out: self.out.clone(),
            sid: message.sid.to_owned(),
            id: id.to_owned(),
            window: asked.map_or(1, |window| window.min(wire::WINDOW_MAX)),
            data_bytes: asked.map_or(wire::DATA_BYTES, |_| wire::WINDOW_DATA_BYTES),
        };
        let answer = connection.opened(props, asked.is_some());
        let task = self.tasks.spawn(connection.run(to, answer, messages)).id();
        self.connections
            .insert(id.to_owned(), Entry { sender, task });
        Ok(())
    }
}

fn failure(reason: &str, typ: &str) -> wire::Failure {
    wire::Failure {
        err: reason.to_owned(),
        msgtype: Some(typ.to_owned()),
    }
}

/// One connection.
struct Connection {
    shared: Arc<Shared>,
    out: Outgoing,
    sid: String,
    id: String,
    /// Messages that may be under way to the user.
    window: usize,
    /// Bytes in one of them.
    data_bytes: usize,
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The user's side wants it: answer with the same.
    Stopped,
    /// The network's side has closed, or nothing happens: tell.
    Closed,
    /// There is nobody to tell.
    Gone,
}

impl From<Gone> for Ending {
    fn from(_: Gone) -> Ending {
        Ending::Gone
    }
}

/// What a message of the user means.
enum Order {
    Data(Incoming),
    Ack,
    Stop,
    End,
}

fn order(incoming: Option<Incoming>) -> Order {
    let Some(incoming) = incoming else {
        return Order::End;
    };
    match incoming.message().map(|message| message.typ) {
        Ok(wire::ACK) => Order::Ack,
        Ok(wire::STOP) => Order::Stop,
        _ => Order::Data(incoming),
    }
}

impl Connection {
    /// The answer to `new`: the same without body.
    fn opened(&self, mut props: Props, windowed: bool) -> Message {
        if windowed {
            props.set(wire::WINDOW, self.window as u64);
        }
        Message {
            props,
            ..wire::message(wire::NEW, &self.sid, &self.id)
        }
    }

    fn message(&self, typ: &str) -> Message {
        wire::message(typ, &self.sid, &self.id)
    }

    /// Sends what the network said to the user.
    async fn pass_on(&self, data: &[u8]) -> Result<(), Gone> {
        let message = self.message(wire::FORWARD).encode_with(data);
        self.out.send_bytes(message).await
    }

    async fn acknowledge(&self) -> Result<(), Gone> {
        self.out.send(&self.message(wire::ACK)).await
    }

    async fn run(self, to: wire::Connect, answer: Message, messages: UnboundedReceiver<Incoming>) {
        let made = timeout(
            self.shared.settings.times.forward_connect,
            self.connect(&to),
        )
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let network = match made {
            Ok(network) => network,
            Err(error) => {
                let reason = format!(
                    "cannot connect to {}:{}/{}: {error}",
                    to.remote_host, to.remote_port, to.protocol
                );
                let failure = failure(&reason, wire::NEW);
                let _ = self.out.send(&failure.message(&self.sid, &self.id)).await;
                return;
            }
        };
        if self.out.send(&answer).await.is_err() {
            return;
        }
        let ending = match network {
            Network::Tcp(stream) => self.tcp(stream, messages).await,
            Network::Udp(socket) => self.udp(&socket, messages).await,
        };
        if ending != Ending::Gone {
            let _ = self.out.send(&self.message(wire::STOP)).await;
        }
    }

    /// To the first of the host's addresses that may be reached and can be.
    async fn connect(&self, to: &wire::Connect) -> std::io::Result<Network> {
        let targets = &self.shared.settings.port_forward.targets;
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in lookup_host((to.remote_host.as_str(), to.remote_port)).await? {
            if !targets.allow(&to.remote_host, address) {
                last = std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    "this device does not forward there (remote.port_forward.targets)",
                );
                continue;
            }
            let made = if to.protocol == UDP {
                udp_to(address).await.map(Network::Udp)
            } else {
                tcp_to(address).await.map(Network::Tcp)
            };
            match made {
                Ok(network) => return Ok(network),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn tcp(
        &self,
        mut stream: TcpStream,
        mut messages: UnboundedReceiver<Incoming>,
    ) -> Ending {
        let (mut reader, mut writer) = stream.split();
        let mut buffer = vec![0; self.data_bytes];
        let mut waiting: VecDeque<Incoming> = VecDeque::new();
        let mut done = 0;
        let mut under_way = 0;
        let mut idle = Instant::now() + self.shared.settings.times.forward_idle;
        loop {
            let pending = waiting.front().map_or(&[][..], Incoming::body);
            let pending = pending.get(done..).unwrap_or_default();
            tokio::select! {
                incoming = messages.recv() => match order(incoming) {
                    Order::End => return Ending::Gone,
                    Order::Ack => under_way = usize::saturating_sub(under_way, 1),
                    Order::Stop => {
                        let rest = async {
                            for incoming in &waiting {
                                writer.write_all(incoming.body().get(done..).unwrap_or_default()).await?;
                                done = 0;
                            }
                            writer.shutdown().await
                        };
                        let _ = timeout(FLUSH_LIMIT, rest).await;
                        return Ending::Stopped;
                    }
                    Order::Data(incoming) => {
                        if incoming.body().is_empty() {
                            if self.acknowledge().await.is_err() {
                                return Ending::Gone;
                            }
                        } else {
                            waiting.push_back(incoming);
                        }
                    }
                },
                written = writer.write(pending), if !pending.is_empty() => {
                    let Ok(count) = written else { return Ending::Closed };
                    done += count;
                    if done >= waiting.front().map_or(0, |first| first.body().len()) {
                        waiting.pop_front();
                        done = 0;
                        if self.acknowledge().await.is_err() {
                            return Ending::Gone;
                        }
                    }
                }
                read = reader.read(&mut buffer), if under_way < self.window => match read {
                    Ok(0) | Err(_) => return Ending::Closed,
                    Ok(count) => {
                        if self.pass_on(&buffer[..count]).await.is_err() {
                            return Ending::Gone;
                        }
                        under_way += 1;
                    }
                },
                () = sleep_until(idle) => return Ending::Closed,
            }
            idle = Instant::now() + self.shared.settings.times.forward_idle;
        }
    }

    async fn udp(&self, socket: &UdpSocket, mut messages: UnboundedReceiver<Incoming>) -> Ending {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut under_way = 0;
        let mut idle = Instant::now() + self.shared.settings.times.forward_idle;
        loop {
            tokio::select! {
                incoming = messages.recv() => match order(incoming) {
                    Order::End => return Ending::Gone,
                    Order::Ack => under_way = usize::saturating_sub(under_way, 1),
                    Order::Stop => return Ending::Stopped,
                    Order::Data(incoming) => {
                        // datagrams may be lost: also this one
                        let _ = socket.send(incoming.body()).await;
                        if self.acknowledge().await.is_err() {
                            return Ending::Gone;
                        }
                    }
                },
                read = socket.recv(&mut buffer), if under_way < self.window => match read {
                    // nobody listens there at the moment
                    Err(_) => {}
                    Ok(count) => {
                        if self.pass_on(&buffer[..count]).await.is_err() {
                            return Ending::Gone;
                        }
                        under_way += 1;
                    }
                },
                () = sleep_until(idle) => return Ending::Closed,
            }
            idle = Instant::now() + self.shared.settings.times.forward_idle;
        }
    }
}

enum Network {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

async fn tcp_to(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket that sends to this address and takes what comes from there.
async fn udp_to(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let local = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    Ok(socket)
}
