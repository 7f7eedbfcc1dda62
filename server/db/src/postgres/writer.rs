//! The task that writes.
//!
//! Services are written for one writer at a time, which the embedded engine has by nature. Here an
//! advisory lock makes it so across all instances on one database: every write transaction takes it
//! first and gives it back with its commit. What is lost in parallelism is won back by grouping: the
//! task takes the batches that wait, sends them down one pipeline, and commits them together, so many
//! writes share one round trip, one lock and one flush of the server's log. Rows that everybody changes
//! (counters of a deployment) cost no more than others.
//!
//! A batch that fails is rolled back to its savepoint and leaves its neighbours untouched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::fault::{Effect, Fault};
use super::group::{self, Broken};
use super::session::{Purpose, Session};
use super::setup;
use super::target::Target;
use crate::measure::Measures;
use crate::migration::Migration;
use crate::tx::Work;
use crate::{DbError, Row, Statement, Value};

/// Batches under one commit.
const GROUP_MAX: usize = 256;
/// Parameters under one commit: a group must not hold up the batches of other instances for long.
const GROUP_PARAMS_MAX: usize = 10_000;
/// Times that a group undone by the server or by the loss of a connection is tried.
const TRIES: u32 = 3;
/// A group without an answer for this long is given up.
const GROUP_TIMEOUT: Duration = Duration::from_secs(75);
/// Number of the lock that writers take.
pub(super) const WRITE_LOCK: u32 = 0;

/// What the task is asked to do.
pub(super) enum Request {
    Batch(Batch),
    Work(Box<dyn Work>),
    Migrate {
        service: &'static str,
        migrations: Vec<Migration>,
        reply: std::sync::mpsc::SyncSender<Result<(), DbError>>,
    },
    Close(oneshot::Sender<Result<(), DbError>>),
}

/// A batch and whoever waits for it.
pub(super) struct Batch {
    pub(super) statements: Vec<Statement>,
    pub(super) reply: oneshot::Sender<Outcome>,
}

pub(super) type Outcome = Result<Vec<u64>, DbError>;

/// Owns the writing connection. Ends when the queue closes or on request.
pub(super) struct Writer {
    target: Arc<Target>,
    session: Option<Arc<Session>>,
    measures: Arc<Measures>,
    /// Batches sent ahead before the answers to the first ones are known.
    window: usize,
}

impl Writer {
    pub(super) fn new(target: Arc<Target>, measures: Arc<Measures>) -> Writer {
        Writer {
            target,
            session: None,
            measures,
            window: group::WINDOW_MAX,
        }
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => request,
                None => match requests.recv().await {
                    Some(request) => request,
                    None => break,
                },
            };
            match request {
                // What was queued behind the request to close is still served: it was accepted.
                Request::Close(reply) => {
                    closing = Some(reply);
                    requests.close();
                }
                Request::Batch(first) => next = self.batches(first, &mut requests).await,
                Request::Work(work) => self.work(work).await,
                Request::Migrate {
                    service,
                    migrations,
                    reply,
                } => {
                    let _ = reply.send(self.migrate(service, &migrations).await);
                }
            }
        }
        if let Some(reply) = closing {
            let _ = reply.send(Ok(()));
        }
    }

    /// The connection, made anew when it was lost.
    async fn session(&mut self) -> Result<Arc<Session>, Fault> {
        if let Some(session) = self.session.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        self.session = None;
        let session = Arc::new(Session::open(&self.target, Purpose::Write).await?);
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Serves a group that starts with `first`; returns the request that ended it.
    async fn batches(
        &mut self,
        first: Batch,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        let mut params = first.params();
        let mut batches = vec![first];
        let mut next = None;
        while batches.len() < GROUP_MAX && params < GROUP_PARAMS_MAX {
            match requests.try_recv() {
                Ok(Request::Batch(batch)) => {
                    params += batch.params();
                    batches.push(batch);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let begun = Instant::now();
        let outcomes = self.group(&batches).await;
        let took = begun.elapsed().as_micros();
        self.measures
            .commit_us
            .record(u64::try_from(took).unwrap_or(u64::MAX));
        self.measures.jobs_per_commit.record(batches.len() as u64);
        for (batch, outcome) in batches.into_iter().zip(outcomes) {
            let _ = batch.reply.send(outcome);
        }
        next
    }

    async fn group(&mut self, batches: &[Batch]) -> Vec<Outcome> {
        let mut tries = 1;
        loop {
            let fault = match self.attempt(batches).await {
                Ok(outcomes) => return outcomes,
                Err(Broken { fault, undone }) => {
                    if undone && tries < TRIES && fault.effect != Effect::Silent {
                        tracing::debug!(error = %fault.error, "a group of writes is tried again");
                        tries += 1;
                        continue;
                    }
                    fault
                }
            };
            self.measures.groups_failed.fetch_add(1, Ordering::Relaxed);
            return batches.iter().map(|_| Err(fault.error.clone())).collect();
        }
    }

    async fn attempt(&mut self, batches: &[Batch]) -> Result<Vec<Outcome>, Broken> {
        // A server that cannot be reached now is not asked thrice.
        let session = self.session().await.map_err(|fault| Broken {
            fault,
            undone: false,
        })?;
        let running = group::run(&session, batches, &mut self.window);
        let outcome = match tokio::time::timeout(GROUP_TIMEOUT, running).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Broken {
                fault: Fault::silent(&self.target.label, GROUP_TIMEOUT),
                undone: false,
            }),
        };
        if let Err(broken) = &outcome {
            self.clean_up(&session, broken.fault.effect).await;
        }
        outcome
    }

    /// Leaves no transaction open behind a failure.
    async fn clean_up(&mut self, session: &Session, effect: Effect) {
        if effect == Effect::Stale {
            session.forget();
        }
        let gone = matches!(effect, Effect::Lost | Effect::Silent);
        if gone || session.command("ROLLBACK").await.is_err() {
            self.session = None;
        }
    }

    async fn work(&mut self, work: Box<dyn Work>) {
        let mut again = true;
        let session = loop {
            let begun = match self.session().await {
                Err(fault) => return work.finish(Err(fault.error)),
                Ok(session) => begin(&session).await.map(|()| session),
            };
            match begun {
                Ok(session) => break session,
                Err(fault) => {
                    let session = self.session.clone();
                    if let Some(session) = session {
                        self.clean_up(&session, fault.effect).await;
                    }
                    if !again || fault.effect == Effect::Statement {
                        return work.finish(Err(fault.error));
                    }
                    again = false;
                }
            }
        };
        let handle = Handle::current();
        let held = Arc::clone(&session);
        // The closure waits for answers like any synchronous code, so it gets a thread for it.
        let running = tokio::task::spawn_blocking(move || {
            let mut work = work;
            let mut effect = None;
            let keep = work.run(&mut crate::Tx::postgres(Tx {
                session: &held,
                handle,
                broken: &mut effect,
            }));
            (work, keep, effect)
        });
        let Ok((work, keep, broken)) = running.await else {
            self.session = None;
            return;
        };
        if let Some(fault) = broken {
            self.clean_up(&session, fault.effect).await;
            return work.finish(Err(fault.error));
        }
        if !keep {
            self.clean_up(&session, Effect::Statement).await;
            return work.finish(Ok(()));
        }
        let committed = match session.command("COMMIT").await {
            Ok(()) => Ok(()),
            Err(fault) => {
                self.clean_up(&session, fault.effect).await;
                Err(group::in_doubt(fault).fault.error)
            }
        };
        work.finish(committed);
    }

    async fn migrate(
        &mut self,
        service: &'static str,
        migrations: &[Migration],
    ) -> Result<(), DbError> {
        let session = self.session().await.map_err(|fault| fault.error)?;
        let outcome = setup::migrate(&session, service, migrations).await;
        if let Err(fault) = &outcome {
            self.clean_up(&session, fault.effect).await;
        }
        outcome.map_err(|fault| fault.error)
    }
}

impl Batch {
    fn params(&self) -> usize {
        self.statements
            .iter()
            .map(|statement| statement.params.len() + 1)
            .sum()
    }
}

async fn begin(session: &Session) -> Result<(), Fault> {
    session
        .command(&format!("BEGIN; {}", session.lock(WRITE_LOCK)))
        .await
}

/// A write transaction in progress, on a thread that may wait.
pub(crate) struct Tx<'a> {
    session: &'a Session,
    handle: Handle,
    /// What made the whole transaction void.
    broken: &'a mut Option<Fault>,
}

impl Tx<'_> {
    pub(crate) fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let session = self.session;
        self.guarded(session.read(sql, params))
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        let session = self.session;
        self.guarded(async {
            let statement = session.prepare(sql, params).await?;
            session
                .write_step(&statement, params)
                .await
                .map_err(|e| Fault::of(&e, sql))
        })
    }

    /// A statement that fails must not void what came before it: the embedded engine undoes the
    /// statement alone.
    fn guarded<T>(
        &mut self,
        statement: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, DbError> {
        if let Some(fault) = &*self.broken {
            return Err(fault.error.clone());
        }
        let session = self.session;
        let outcome = self.handle.block_on(async {
            session.command("SAVEPOINT statement").await?;
            let outcome = statement.await;
            let end = match &outcome {
                Err(fault) if fault.effect == Effect::Statement => {
                    "ROLLBACK TO SAVEPOINT statement; RELEASE SAVEPOINT statement"
                }
                Err(_) => return outcome,
                Ok(_) => "RELEASE SAVEPOINT statement",
            };
            session.command(end).await?;
            outcome
        });
        outcome.map_err(|fault| {
            if fault.effect != Effect::Statement {
                *self.broken = Some(fault.clone());
            }
            fault.error
        })
    }
}
