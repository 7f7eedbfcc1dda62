//! A TCP proxy that can be told to misbehave, put between agent and server.
//!
//! One task per connection and direction; all of them watch one [`Fault`] and the number of cuts. The
//! proxy owns its listener: dropping it ends the accept loop and with it every connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CHUNK_BYTES: usize = 16 * 1024;

/// What the proxy does to every connection from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Forwards everything.
    None,
    /// Closes new connections at once; existing ones go on.
    Refuse,
    /// Keeps connections open but forwards nothing.
    Stall,
    /// Forwards what the server sends at this speed.
    Slow { bytes_per_second: u64 },
}

#[derive(Debug)]
struct Shared {
    fault: watch::Sender<Fault>,
    cuts: watch::Sender<u64>,
    /// Bytes from the server to clients.
    down: AtomicU64,
    /// When `down` reaches this, every connection is cut once; 0 = never.
    cut_at: AtomicU64,
    connections: AtomicU64,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `upstream`.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("opening the proxy's port")?;
        let address = listener
            .local_addr()
            .context("asking for the proxy's port")?;
        let shared = Arc::new(Shared {
            fault: watch::Sender::new(Fault::None),
            cuts: watch::Sender::new(0),
            down: AtomicU64::new(0),
            cut_at: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            tasks,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// Closes every open connection now.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts every connection once, as soon as `bytes` more have come from the server.
    pub fn cut_after(&self, bytes: u64) {
        let at = self.bytes_down() + bytes.max(1);
        self.shared.cut_at.store(at, Ordering::SeqCst);
    }

    /// Bytes forwarded from the server so far.
    pub fn bytes_down(&self) -> u64 {
        self.shared.down.load(Ordering::SeqCst)
    }

    /// Connections accepted so far, refused ones included.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Stops listening: connecting is refused by the kernel from now on.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, shared: Arc<Shared>) {
    // dropped together with this task, which ends every connection
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        while connections.try_join_next().is_some() {}
        if *shared.fault.borrow() == Fault::Refuse {
            drop(client);
            continue;
        }
        connections.spawn(forward(client, upstream, Arc::clone(&shared)));
    }
}

async fn forward(client: TcpStream, upstream: SocketAddr, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let both = async {
        tokio::join!(
            pump(client_read, server_write, &shared, false),
            pump(server_read, client_write, &shared, true)
        );
    };
    tokio::select! {
        () = both => {}
        _ = cuts.changed() => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    shared: &Shared,
    from_server: bool,
) {
    let mut fault = shared.fault.subscribe();
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if fault
            .wait_for(|fault| *fault != Fault::Stall)
            .await
            .is_err()
        {
            break;
        }
        let current = *fault.borrow();
        if let (Fault::Slow { bytes_per_second }, true) = (current, from_server) {
            let micros = count as u64 * 1_000_000 / bytes_per_second.max(1);
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        let Some(bytes) = chunk.get(..count) else {
            break;
        };
        if to.write_all(bytes).await.is_err() {
            break;
        }
        if from_server {
            let down = shared.down.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
            let cut_at = shared.cut_at.load(Ordering::SeqCst);
            if cut_at != 0 && down >= cut_at && shared.cut_at.swap(0, Ordering::SeqCst) != 0 {
                shared.cuts.send_modify(|cuts| *cuts += 1);
            }
        }
    }
    // hand the end of the stream on; the other direction may still be busy
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn echoed(stream: &mut TcpStream, limit: Duration) -> Option<u8> {
        stream.write_all(b"x").await.ok()?;
        tokio::time::timeout(limit, stream.read_u8())
            .await
            .ok()?
            .ok()
    }

    #[tokio::test]
    async fn forwards_stalls_cuts_and_refuses() {
        const SHORT: Duration = Duration::from_millis(200);
        const LONG: Duration = Duration::from_secs(10);
        let proxy = Proxy::start(echo_server().await).await.expect("a proxy");
        let mut stream = TcpStream::connect(proxy.address())
            .await
            .expect("a connection");
        assert_eq!(echoed(&mut stream, LONG).await, Some(b'x'));
        assert_eq!(proxy.bytes_down(), 1);

        proxy.set(Fault::Stall);
        assert_eq!(
            echoed(&mut stream, SHORT).await,
            None,
            "a stalled connection forwards nothing"
        );
        proxy.set(Fault::None);
        let late = tokio::time::timeout(LONG, stream.read_u8()).await;
        assert_eq!(
            late.expect("in time").expect("a byte"),
            b'x',
            "what was stalled arrives later"
        );

        proxy.cut_after(2);
        assert_eq!(echoed(&mut stream, LONG).await, Some(b'x'));
        assert_eq!(echoed(&mut stream, LONG).await, Some(b'x'));
        assert_eq!(echoed(&mut stream, LONG).await, None, "cut after two bytes");

        proxy.set(Fault::Refuse);
        let mut refused = TcpStream::connect(proxy.address())
            .await
            .expect("a connection");
        assert_eq!(echoed(&mut refused, LONG).await, None, "refused");
    }
}
