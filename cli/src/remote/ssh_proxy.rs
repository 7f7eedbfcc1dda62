//! `ambidex ssh-proxy`

use std::io;

use ambidex_wire::session::{PROTO_FORWARD, forward};
use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::sync::mpsc;

use super::device;
use super::forward_spec::DEVICE_HOST;
use super::pipe::{Connections, Drain, Source};
use super::socket::Session;
use super::stdio::{self, Output};
use crate::exit::Failure;
use crate::fleet::connection::Connection;
use crate::interrupt::Own;

const SSH_PORT: u16 = 22;

#[derive(Debug, Args)]
#[command(after_help = "\
For OpenSSH, which then reaches devices that no network leads to: standard input and output are those
of a connection to the SSH server of the device itself. The login stays between ssh and the device.

In ~/.ssh/config:
    Host pump-*
        ProxyCommand ambidex ssh-proxy %h:%p
        User root

Or once, and the same for scp, sftp and rsync -e:
    ssh -o ProxyCommand='ambidex ssh-proxy %h:%p' root@pump-7

A device whose name has colons itself is told its port by --port:
    ssh -o ProxyCommand='ambidex ssh-proxy --port %p 02:00:00:00:00:01' root@device")]
pub struct Arguments {
    /// Id of the device, a value of its identity, or the beginning of either; with the port if it is
    /// not 22.
    #[arg(value_name = "DEVICE[:PORT]")]
    device: String,
    /// Port on the device.
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    connection: Connection,
}

/// Divides `DEVICE:PORT`. What has several colons is a device as a whole.
fn divide(text: &str) -> Result<(&str, u16), Failure> {
    match text.split_once(':') {
        Some((device, port)) if !port.contains(':') => match port.parse() {
            Ok(port) if port > 0 => Ok((device, port)),
            _ => Err(Failure::usage(format!("{port:?} is no port"))),
        },
        _ => Ok((text, SSH_PORT)),
    }
}

impl Arguments {
    pub async fn run(self) -> Result<(), Failure> {
        // OpenSSH ends its proxy with a hangup, which is no interruption.
        let mut own = Own::take().context("cannot hear of signals")?;
        tokio::select! {
            outcome = self.carry() => outcome,
            () = own.asked_to_end() => Ok(()),
        }
    }

    async fn carry(self) -> Result<(), Failure> {
        let (name, port) = match self.port {
            Some(port) => (self.device.as_str(), port),
            None => divide(&self.device)?,
        };
        let api = self.connection.api()?;
        let device = device::find(&api, name).await?;
        let doing = format!("cannot reach port {port} of {}", device.name);
        let mut session = Session::with_device(&api, &device.id, &doing)
            .await
            .map_err(|refused| refused.failure)?;
        session
            .demand(PROTO_FORWARD, "port forwarding")
            .await
            .map_err(|problem| problem.failure(&doing))?;
        let connections = Connections::of(&session);
        let target = forward::Connect {
            remote_host: DEVICE_HOST.to_owned(),
            remote_port: port,
            protocol: "tcp".to_owned(),
        };
        let work = async {
            let connection = connections.connect(&target).await?;
            let input = Input {
                pieces: stdio::input(),
                left: Vec::new(),
            };
            connection.pump(input, Some(Output::start())).await
        };
        let outcome = {
            let mut work = std::pin::pin!(work);
            loop {
                tokio::select! {
                    outcome = &mut work => break outcome,
                    message = session.next() => match message {
                        Ok(message) => connections.take(message),
                        Err(ended) => return Err(ended.failure(&doing)),
                    },
                }
            }
        };
        session.close().await;
        outcome.map_err(|why| anyhow!("{doing}: {why}").into())
    }
}

/// Standard input.
struct Input {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    left: Vec<u8>,
}

impl Source for Input {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            self.left = match self.pieces.recv().await {
                Some(piece) => piece?,
                None => return Ok(0),
            };
        }
        // What has come meanwhile goes along.
        while self.left.len() < buffer.len() {
            match self.pieces.try_recv() {
                Ok(piece) => self.left.append(&mut piece?),
                Err(_) => break,
            }
        }
        let count = self.left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }
}

impl Drain for Option<Output> {
    async fn write(&mut self, data: Vec<u8>) -> io::Result<()> {
        let taken = match self {
            Some(output) => output.write(data).await,
            None => false,
        };
        if taken {
            Ok(())
        } else {
            Err(io::Error::other("standard output takes nothing any more"))
        }
    }

    async fn end(&mut self) {
        if let Some(output) = self.take() {
            // ssh is gone then.
            drop(output.finish().await);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn devices_and_ports() {
        for (text, device, port) in [
            ("pump-7", "pump-7", 22),
            ("pump-7:2222", "pump-7", 2222),
            ("02:00:00:00:00:01", "02:00:00:00:00:01", 22),
        ] {
            assert_eq!(divide(text).unwrap(), (device, port));
        }
        for text in ["pump-7:", "pump-7:0", "pump-7:ssh", "pump-7:65536"] {
            assert!(divide(text).is_err(), "{text}");
        }
    }
}
