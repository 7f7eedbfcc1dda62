//! Connections that read.
//!
//! Short reads share a few connections, on which they follow each other without waiting for answers.
//! A read that may take longer has a connection to itself, so that it holds up nobody; as many of them
//! run at once as the pool has connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::fault::{Effect, Fault};
use super::session::{Purpose, Session};
use super::target::Target;
use crate::{DbError, Row, Value};

/// Connections that short reads share.
const SHARED: usize = 2;
/// Connections for long reads, a connection each.
const POOL: usize = 8;
/// Long reads that may wait. Beyond it the server is overloaded and says so at once.
const QUEUE_MAX: usize = 4096;
/// A read without an answer for this long is given up; the server ends its own statements before.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

pub(super) struct Readers {
    target: Arc<Target>,
    /// The runtime that owns the connections. Callers may run on any other.
    handle: Handle,
    shared: [Shared; SHARED],
    turn: AtomicUsize,
    idle: Mutex<Vec<Arc<Session>>>,
    places: Semaphore,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Shared {
    session: RwLock<Option<Arc<Session>>>,
    /// Held while a new connection is made: one caller makes it, the others take it.
    making: tokio::sync::Mutex<()>,
}

impl Shared {
    fn ready(&self) -> Option<Arc<Session>> {
        self.session
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .filter(|session| !session.is_closed())
    }

    fn set(&self, session: Option<Arc<Session>>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

impl Readers {
    pub(super) fn new(target: Arc<Target>, handle: Handle) -> Readers {
        Readers {
            target,
            handle,
            shared: Default::default(),
            turn: AtomicUsize::new(0),
            idle: Mutex::default(),
            places: Semaphore::new(POOL),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A read through an index.
    pub(super) async fn short(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let shared = &self.shared[self.turn.fetch_add(1, Ordering::Relaxed) % SHARED];
        let mut again = true;
        loop {
            let session = match shared.ready() {
                Some(session) => session,
                None => self.renew(shared).await?,
            };
            match self.within(session.read(sql, params)).await {
                // The server was restarted: a read may be repeated without harm.
                Err(fault) if again && fault.effect == Effect::Lost => again = false,
                Err(fault) if fault.effect == Effect::Silent => {
                    shared.set(None);
                    return Err(fault.error);
                }
                outcome => return outcome.map_err(|fault| fault.error),
            }
        }
    }

    async fn renew(&self, shared: &Shared) -> Result<Arc<Session>, DbError> {
        let _making = shared.making.lock().await;
        if let Some(session) = shared.ready() {
            return Ok(session);
        }
        let session = self.connect().await?;
        shared.set(Some(Arc::clone(&session)));
        Ok(session)
    }

    /// Any other read.
    pub(super) async fn long(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let _place = self.places.acquire().await.map_err(|_| DbError::Closed)?;
        let mut again = true;
        loop {
            // Not in the head of the match, which would hold the lock through its arms.
            let idle = self.idle().pop();
            let session = match idle {
                Some(session) if !session.is_closed() => session,
                Some(_) => continue,
                None => self.connect().await?,
            };
            match self.within(session.read(sql, params)).await {
                Err(fault) if fault.effect == Effect::Lost => {
                    if !again {
                        return Err(fault.error);
                    }
                    again = false;
                }
                Err(fault) if fault.effect == Effect::Silent => return Err(fault.error),
                outcome => {
                    if !self.places.is_closed() {
                        self.idle().push(session);
                    }
                    return outcome.map_err(|fault| fault.error);
                }
            }
        }
    }

    /// Long reads that wait for a connection.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
            .load(Ordering::Relaxed)
            .saturating_sub(POOL - self.places.available_permits()) as u64
    }

    /// A connection is made on the runtime that shall own it.
    async fn connect(&self) -> Result<Arc<Session>, DbError> {
        let target = Arc::clone(&self.target);
        let opening = self
            .handle
            .spawn(async move { Session::open(&target, Purpose::Read).await });
        match opening.await {
            Ok(Ok(session)) => Ok(Arc::new(session)),
            Ok(Err(fault)) => Err(fault.error),
            Err(_) => Err(DbError::Closed),
        }
    }

    async fn within(
        &self,
        read: impl Future<Output = Result<Vec<Row>, Fault>>,
    ) -> Result<Vec<Row>, Fault> {
        let timed = {
            let _runtime = self.handle.enter();
            tokio::time::timeout(READ_TIMEOUT, read)
        };
        timed
            .await
            .unwrap_or_else(|_| Err(Fault::silent(&self.target.label, READ_TIMEOUT)))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends idle connections; those in use end with their read.
    pub(super) fn stop(&self) {
        self.places.close();
        self.idle().clear();
        for shared in &self.shared {
            shared.set(None);
        }
    }
}

/// A place in the queue of long reads.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn enter(count: &AtomicUsize) -> Result<Waiting<'_>, DbError> {
        if count.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(DbError::Unavailable(format!(
                "{QUEUE_MAX} reads are waiting already"
            )));
        }
        Ok(Waiting(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
