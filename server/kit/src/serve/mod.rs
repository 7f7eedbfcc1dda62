//! The accept loop: connection limit, header and body time limits, TLS, graceful stop.
//!
//! Each connection is one task that owns its socket; nothing is shared between connections but the
//! routes and a semaphore that counts them. On shutdown the listener is dropped first, idle connections
//! are closed, and requests in flight are finished until the time limit. A connection that becomes a
//! websocket leaves this accounting for another: see [`Upgrades`].

mod stalled;
mod tls;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use stalled::StallLimit;
pub use tls::{Tls, TlsError};
pub use upgrade::{Upgraded, Upgrades};

/// Limits of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections served at the same time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections that have left HTTP (websockets) at the same time; further ones are refused.
    pub upgraded: usize,
    /// From the first moment of waiting for a request until its head is complete; also ends connections
    /// that stay idle between requests.
    pub header_read: Duration,
    /// A request body may not pause for longer.
    pub body_stall: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// After a request to stop, requests in flight may take this long.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16_384,
            upgraded: 65_536,
            header_read: Duration::from_secs(75),
            body_stall: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            drain: Duration::from_secs(25),
        }
    }
}

/// The other end of a connection, found in the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted by this server.
    pub tls: bool,
}

/// Tells listeners and background tasks to stop. Clones share one state.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

impl Shutdown {
    /// Not yet asked to stop.
    pub fn new() -> Shutdown {
        Shutdown(Arc::new(watch::Sender::new(false)))
    }

    /// Asks everything that holds a clone to stop.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Whether a stop was asked for.
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once a stop is asked for.
    pub async fn wait(&self) {
        let mut state = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = state.wait_for(|stop| *stop).await;
    }
}

/// Returns when the process is asked to stop (SIGTERM or SIGINT), with the signal's name.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub async fn stop_signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// Serves `routes` (already dressed by [`crate::front`]) on `listener` until `shutdown`. Returns the
/// number of connections that were cut off because they were still busy when the drain time was over.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    tls: Option<Tls>,
    limits: Limits,
    shutdown: Shutdown,
) -> usize {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let upgrades = Upgrades::new(limits.upgraded, shutdown.clone());
    let routes = routes
        .with_state::<()>(())
        .layer(axum::Extension(upgrades.clone()));
    let abort = Shutdown::new();
    let mut stop = std::pin::pin!(shutdown.wait());
    loop {
        let slot = tokio::select! {
            () = &mut stop => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let (stream, address) = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A connection that went away before it was accepted, or no file descriptor left:
                    // neither may end the server; a pause gives descriptors time to be freed.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        // Answers are small and must not wait for Nagle's algorithm.
        let _ = stream.set_nodelay(true);
        let (routes, tls, limits) = (routes.clone(), tls.clone(), limits.clone());
        let (shutdown, abort) = (shutdown.clone(), abort.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let _counted = crate::metrics::CONNECTIONS.up();
            let peer = Peer {
                address,
                tls: tls.is_some(),
            };
            match tls {
                None => connection(stream, peer, routes, &limits, &shutdown, &abort).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(limits.handshake, tls.accept(stream));
                    match handshake.await {
                        Ok(Ok(stream)) => {
                            connection(stream, peer, routes, &limits, &shutdown, &abort).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
                    }
                }
            }
        });
    }
    drop(listener);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let drained = async {
        let _ = slots.acquire_many(all).await;
        upgrades.ended().await;
    };
    match tokio::time::timeout(limits.drain, drained).await {
        Ok(()) => 0,
        Err(_) => {
            let busy = limits.connections - slots.available_permits();
            abort.trigger();
            busy + upgrades.in_use()
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Router,
    limits: &Limits,
    shutdown: &Shutdown,
    abort: &Shutdown,
) {
    let stall = limits.body_stall;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let routes = routes.clone();
        let mut request = request.map(|body| Body::new(StallLimit::new(body, stall)));
        request.extensions_mut().insert(peer);
        routes.oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = abort.wait() => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(address = %peer.address, %error, "connection ended");
    }
}
