//! `ambidex port-forward`

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambidex_wire::session::{PROTO_FORWARD, forward};
use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::device::{self, Device};
use super::forward_spec::{Spec, Transport};
use super::pipe::{Connections, Drain, Source};
use super::socket::{Ended, Problem, Session};
use crate::OutputForm;
use crate::exit::{Code, Failure};
use crate::fleet::api::Api;
use crate::fleet::connection::Connection;
use crate::fleet::table;
use crate::interrupt::Own;

/// Connections of one forward at a time, as many as our agent has in a session; further ones wait to be
/// accepted.
const CONNECTIONS_MAX: usize = 256;
/// Local senders of one UDP forward at a time; datagrams of further ones are dropped.
const SENDERS_MAX: usize = 256;
/// A UDP sender that is silent for this long is forgotten.
const SENDER_IDLE: Duration = Duration::from_secs(60);
/// Datagrams of a sender that wait; more are dropped, as networks do.
const DATAGRAMS_MAX: usize = 64;
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// The longest pause between two tries to connect again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
A forward is [tcp|udp/]LOCAL[:[HOST:]REMOTE]: connections to port LOCAL of this machine become
connections of the device to port REMOTE of HOST, which is the device itself unless said otherwise.
REMOTE is LOCAL unless said otherwise. Port 0 as LOCAL takes one that is free and prints it.

When the connection is lost, open connections end; the ports stay, and new connections work as soon as
the device can be reached again. Ctrl-C ends it all.

Data is acknowledged piece by piece, so the distance counts: a connection carries up to 4 KiB a round
trip with other agents, 256 KiB with ours.

Examples:
    ambidex port-forward pump-7 8080:80
    ambidex port-forward pump-7 0:22 udp/5353:53 8554:192.168.1.20:554
    ambidex port-forward pump-7 --bind 0.0.0.0 8080:80    (for the whole network)")]
pub struct Arguments {
    /// Id of the device, a value of its identity, or the beginning of either.
    device: String,
    /// What to forward: [tcp|udp/]LOCAL[:[HOST:]REMOTE].
    #[arg(required = true, value_name = "FORWARD", value_parser = Spec::parse)]
    forwards: Vec<Spec>,
    /// Address of this machine to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    #[command(flatten)]
    connection: Connection,
}

/// A port that is open.
#[derive(Clone)]
struct Port {
    spec: Spec,
    local: SocketAddr,
    door: Door,
}

#[derive(Clone)]
enum Door {
    Tcp(Arc<TcpListener>),
    Udp(Arc<UdpSocket>),
}

impl Arguments {
    pub async fn run(self, form: OutputForm) -> Result<(), Failure> {
        let api = self.connection.api()?;
        let mut own = Own::take().context("cannot hear of signals")?;
        let work = async {
            let device = device::find(&api, &self.device).await?;
            let doing = format!("cannot forward ports of {}", device.name);
            let session = open(&api, &device, &doing).await.map_err(|(_, f)| f)?;
            let mut ports = Vec::new();
            for spec in self.forwards {
                ports.push(Port::open(self.bind, spec).await?);
            }
            announce(&ports, &device, form)?;
            Ok::<_, Failure>((device, doing, session, ports))
        };
        let (device, doing, mut session, ports) = tokio::select! {
            ready = work => ready?,
            () = own.asked_to_end() => return Err(anyhow!("interrupted").into()),
        };
        loop {
            let ended = tokio::select! {
                ended = serve(&mut session, &ports) => ended,
                () = own.asked_to_end() => {
                    // Everything that was open has been dropped, which tells the device.
                    session.close().await;
                    eprintln!("ambidex: port forward of {} ended", device.name);
                    return Ok(());
                }
            };
            let failure = ended.failure(&doing);
            if failure.code == Code::Refused {
                return Err(failure);
            }
            eprintln!("ambidex: {:#}; connecting again", failure.error);
            session = tokio::select! {
                session = reopen(&api, &device, &doing) => session?,
                () = own.asked_to_end() => return Ok(()),
            };
            eprintln!("ambidex: connected to {} again", device.name);
        }
    }
}

/// A session with a device that forwards ports. The flag tells whether it may work later.
async fn open(api: &Api, device: &Device, doing: &str) -> Result<Session, (bool, Failure)> {
    let mut session = Session::with_device(api, &device.id, doing)
        .await
        .map_err(|refused| (refused.transient, refused.failure))?;
    match session.demand(PROTO_FORWARD, "port forwarding").await {
        Ok(()) => Ok(session),
        Err(problem) => {
            let transient = matches!(&problem, Problem::Ended(ended) if ended.transient());
            Err((transient, problem.failure(doing)))
        }
    }
}

/// Tries until it works, or cannot work any more.
async fn reopen(api: &Api, device: &Device, doing: &str) -> Result<Session, Failure> {
    let mut pause = Duration::from_secs(1);
    loop {
        match open(api, device, doing).await {
            Ok(session) => return Ok(session),
            Err((false, failure)) => return Err(failure),
            Err((true, _)) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn announce(ports: &[Port], device: &Device, form: OutputForm) -> Result<(), Failure> {
    if form == OutputForm::Json {
        let list = ports.iter().map(|port| {
            json!({
                "protocol": port.spec.transport.name(),
                "local": port.local.to_string(),
                "remote": port.spec.to_string(),
            })
        });
        return table::print_json(&list.collect());
    }
    for port in ports {
        table::emit(&format!(
            "{} {} -> {} {}\n",
            port.spec.transport.name(),
            port.local,
            device.name,
            port.spec
        ))?;
    }
    Ok(())
}

/// Serves all ports over one session until it ends. Dropping it closes all connections.
async fn serve(session: &mut Session, ports: &[Port]) -> Ended {
    let connections = Connections::of(session);
    let mut tasks = JoinSet::new();
    for port in ports {
        let (port, connections) = (port.clone(), connections.clone());
        tasks.spawn(async move { port.serve(connections).await });
    }
    let ended = loop {
        match session.next().await {
            Ok(message) => connections.take(message),
            Err(ended) => break ended,
        }
    };
    tasks.shutdown().await;
    ended
}

impl Port {
    async fn open(bind: IpAddr, spec: Spec) -> Result<Self, Failure> {
        let address = SocketAddr::new(bind, spec.local);
        let cannot = || {
            format!(
                "cannot listen on {} port {}; is it in use?",
                bind, spec.local
            )
        };
        let (local, door) = match spec.transport {
            Transport::Tcp => {
                let listener = TcpListener::bind(address).await.with_context(cannot)?;
                let local = listener.local_addr().with_context(cannot)?;
                (local, Door::Tcp(Arc::new(listener)))
            }
            Transport::Udp => {
                let socket = UdpSocket::bind(address).await.with_context(cannot)?;
                let local = socket.local_addr().with_context(cannot)?;
                (local, Door::Udp(Arc::new(socket)))
            }
        };
        Ok(Self { spec, local, door })
    }

    fn target(&self) -> forward::Connect {
        forward::Connect {
            remote_host: self.spec.host.clone(),
            remote_port: self.spec.remote,
            protocol: self.spec.transport.name().to_owned(),
        }
    }

    fn complain(&self, what: &str, why: &str) {
        eprintln!("ambidex: {} -> {}: {what}: {why}", self.local, self.spec);
    }

    async fn serve(&self, connections: Connections) {
        match &self.door {
            Door::Tcp(listener) => self.serve_tcp(listener, connections).await,
            Door::Udp(socket) => self.serve_udp(socket, connections).await,
        }
    }

    async fn serve_tcp(&self, listener: &TcpListener, connections: Connections) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut tasks = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Mostly too many open files: some of them close.
                        self.complain("cannot accept a connection", &error.to_string());
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            };
            let (port, connections) = (self.clone(), connections.clone());
            tasks.spawn(async move {
                port.carry(stream, &connections).await;
                drop(place);
            });
        }
    }

    async fn carry(&self, stream: TcpStream, connections: &Connections) {
        // Small messages must not wait for company. Where that cannot be had, they do.
        drop(stream.set_nodelay(true));
        let connection = match connections.connect(&self.target()).await {
            Ok(connection) => connection,
            Err(why) => return self.complain("the device cannot connect", &why),
        };
        let (source, drain) = stream.into_split();
        if let Err(why) = connection.pump(source, drain).await {
            self.complain("a connection broke", &why);
        }
    }

    /// A connection of the device for every local sender, so that answers find their way back.
    async fn serve_udp(&self, socket: &Arc<UdpSocket>, connections: Connections) {
        let mut senders: HashMap<SocketAddr, (mpsc::Sender<Vec<u8>>, Instant)> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut sweep = tokio::time::interval(SENDER_IDLE / 4);
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let (count, from) = tokio::select! {
                received = socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    // What an earlier answer met: nobody listens there any more.
                    Err(_) => continue,
                },
                _ = sweep.tick() => {
                    senders.retain(|_, (queue, used)| {
                        used.elapsed() < SENDER_IDLE && !queue.is_closed()
                    });
                    while tasks.try_join_next().is_some() {}
                    continue;
                }
            };
            if count == 0 {
                continue;
            }
            let known = senders.get(&from).is_some_and(|(q, _)| !q.is_closed());
            if !known {
                if senders.len() >= SENDERS_MAX {
                    continue;
                }
                let (queue, datagrams) = mpsc::channel(DATAGRAMS_MAX);
                senders.insert(from, (queue, Instant::now()));
                let (port, connections) = (self.clone(), connections.clone());
                let drain = Datagrams(Arc::clone(socket), from);
                tasks.spawn(async move {
                    match connections.connect(&port.target()).await {
                        Ok(connection) => {
                            // Datagrams may be lost; so may a connection of them.
                            drop(connection.pump(Queue(datagrams), drain).await);
                        }
                        Err(why) => port.complain("the device cannot connect", &why),
                    }
                });
            }
            if let Some((queue, used)) = senders.get_mut(&from) {
                *used = Instant::now();
                drop(queue.try_send(buffer[..count].to_vec()));
            }
        }
    }
}

/// The datagrams of one local sender, one a message.
struct Queue(mpsc::Receiver<Vec<u8>>);

impl Source for Queue {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(datagram) = self.0.recv().await else {
                return Ok(0);
            };
            // One that does not fit into a message is lost, as those that do not fit into networks.
            if let Some(room) = buffer.get_mut(..datagram.len()) {
                room.copy_from_slice(&datagram);
                return Ok(datagram.len());
            }
        }
    }
}

/// The way back to one local sender.
struct Datagrams(Arc<UdpSocket>, SocketAddr);

impl Drain for Datagrams {
    async fn write(&mut self, data: Vec<u8>) -> io::Result<()> {
        // One that cannot be sent is lost, as in networks.
        drop(self.0.send_to(&data, self.1).await);
        Ok(())
    }

    async fn end(&mut self) {}
}
