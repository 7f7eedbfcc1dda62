//! Connections to the network of this machine.

use std::collections::HashMap;
use std::sync::Arc;

use ambidex_wire::session::{Message, forward as wire};
use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Link, Manner, Out};

struct Connection {
    id: String,
    sid: String,
    out: Out,
    messages: mpsc::Receiver<Message>,
    window: usize,
    data_bytes: usize,
}

enum Network {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Takes a message to its connection; makes one where it begins.
pub(super) async fn take(
    link: &Arc<Link>,
    message: Message,
    connections: &mut HashMap<String, mpsc::Sender<Message>>,
    tasks: &mut JoinSet<()>,
    out: &Out,
) -> Result<()> {
    let id = message.props.text(wire::CONNECTION_ID).unwrap_or_default();
    let id = id.to_owned();
    if message.typ == wire::NEW {
        let to = wire::Connect::decode(&message.body)?;
        let asked = message
            .props
            .int(wire::WINDOW)
            .filter(|_| link.manner == Manner::Ours);
        let window = usize::try_from(asked.unwrap_or(1))?.clamp(1, wire::WINDOW_MAX);
        let (queue, messages) = mpsc::channel(64);
        let connection = Connection {
            id: id.clone(),
            sid: message.sid.clone(),
            out: out.clone(),
            messages,
            window,
            data_bytes: match asked {
                Some(_) => wire::WINDOW_DATA_BYTES,
                None => wire::DATA_BYTES,
            },
        };
        connections.insert(id, queue);
        let names = link.manner == Manner::Ours;
        tasks.spawn(async move { connection.run(to, asked.is_some(), names).await });
        return Ok(());
    }
    let known = match connections.get(&id) {
        Some(queue) => queue.send(message.clone()).await.is_ok(),
        None => false,
    };
    if !known || message.typ == wire::STOP {
        connections.remove(&id);
    }
    if !known && message.typ != wire::ACK {
        let failure = wire::Failure {
            err: "unknown connection".to_owned(),
            msgtype: Some(message.typ),
        };
        let mut answer = failure.message(&message.sid, "");
        answer.props.remove(wire::CONNECTION_ID);
        out.send(answer).await?;
    }
    Ok(())
}

impl Connection {
    fn message(&self, typ: &str) -> Message {
        wire::message(typ, &self.sid, &self.id)
    }

    async fn run(mut self, to: wire::Connect, windowed: bool, names: bool) {
        let network = match connect(&to).await {
            Ok(network) => network,
            Err(error) => {
                let failure = wire::Failure {
                    err: format!("{error:#}"),
                    msgtype: Some(wire::NEW.to_owned()),
                };
                let mut answer = failure.message(&self.sid, &self.id);
                if !names {
                    answer.props.remove(wire::CONNECTION_ID);
                }
                let _ = self.out.send(answer).await;
                return;
            }
        };
        let mut answer = self.message(wire::NEW);
        if windowed {
            answer = answer.prop(wire::WINDOW, self.window as u64);
        }
        if self.out.send(answer).await.is_err() {
            return;
        }
        // An error is the end of the connection, whichever side it is on.
        let _ = match network {
            Network::Tcp(stream) => self.tcp(stream).await,
            Network::Udp(socket) => self.udp(&socket).await,
        };
        let _ = self.out.send(self.message(wire::STOP)).await;
    }

    async fn tcp(&mut self, mut stream: TcpStream) -> Result<()> {
        let (mut reader, mut writer) = stream.split();
        let mut buffer = vec![0; self.data_bytes];
        let mut under_way = 0;
        loop {
            tokio::select! {
                message = self.messages.recv() => {
                    let message = message.context("the session ended")?;
                    match message.typ.as_str() {
                        wire::FORWARD => {
                            writer.write_all(&message.body).await?;
                            self.out.send(self.message(wire::ACK)).await?;
                        }
                        wire::ACK => under_way -= 1,
                        _ => return Ok(()),
                    }
                }
                count = reader.read(&mut buffer), if under_way < self.window => {
                    let count = count?;
                    if count == 0 {
                        return Ok(());
                    }
                    under_way += 1;
                    let data = self.message(wire::FORWARD).body(&buffer[..count]);
                    self.out.send(data).await?;
                }
            }
        }
    }

    async fn udp(&mut self, socket: &UdpSocket) -> Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            tokio::select! {
                message = self.messages.recv() => {
                    let message = message.context("the session ended")?;
                    match message.typ.as_str() {
                        wire::FORWARD => {
                            socket.send(&message.body).await?;
                            self.out.send(self.message(wire::ACK)).await?;
                        }
                        wire::STOP => return Ok(()),
                        _ => {}
                    }
                }
                count = socket.recv(&mut buffer) => {
                    let data = self.message(wire::FORWARD).body(&buffer[..count?]);
                    self.out.send(data).await?;
                }
            }
        }
    }
}

async fn connect(to: &wire::Connect) -> Result<Network> {
    let address = (to.remote_host.as_str(), to.remote_port);
    if to.protocol == "udp" {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(address).await?;
        return Ok(Network::Udp(socket));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Network::Tcp(stream))
}
