//! The engine for several instances: PostgreSQL.
//!
//! A runtime of its own owns the connections, so that they outlive whichever runtime opened the
//! database and serve callers on any. Reads go down shared or pooled connections, all writes of this
//! process through one task ([`writer`]). Whatever loses its connection makes a new one: reads are
//! repeated, writes only when it is certain that nothing of them was committed.

mod dialect;
mod fault;
mod group;
mod readers;
mod session;
mod setup;
mod target;
mod tls;
mod value;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::measure::Measures;
use crate::migration::{self, Migration};
use crate::tx::Work;
use crate::{DbError, DbStats, Row, Statement, Value};
use fault::Fault;
use readers::Readers;
use session::{Purpose, Session};
use target::Target;
pub(crate) use writer::Tx;
use writer::{Batch, Request, Writer};

/// Writes that may wait; further callers wait before they may queue (back-pressure).
const QUEUE_MAX: usize = 4096;
/// Threads that move bytes between callers and the server.
const THREADS: usize = 2;
/// Until connections have said goodbye.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// A health check without an answer for this long has failed.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Postgres {
    target: Arc<Target>,
    handle: Handle,
    queue: mpsc::Sender<Request>,
    measures: Arc<Measures>,
    readers: Readers,
    closed: AtomicBool,
}

impl Postgres {
    /// Connects and makes the tables of this crate. Blocks.
    pub(crate) fn open(url: &str) -> Result<Arc<Postgres>, DbError> {
        let target = Arc::new(Target::parse(url)?);
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let measures = Arc::new(Measures::default());
        let writer = Writer::new(Arc::clone(&target), Arc::clone(&measures));
        thread::Builder::new()
            .name("db-write".to_owned())
            .spawn(move || own(writer, requests, &started))
            .map_err(|e| DbError::Unavailable(format!("cannot start a database thread: {e}")))?;
        let handle = start.recv().map_err(|_| DbError::Closed)??;
        let engine = Postgres {
            readers: Readers::new(Arc::clone(&target), handle.clone()),
            target,
            handle,
            queue,
            measures,
            closed: AtomicBool::new(false),
        };
        // Once through the writer: it keeps the connection for the writes to come.
        engine.migrate_now("", Vec::new())?;
        Ok(Arc::new(engine))
    }

    pub(crate) fn label(&self) -> &str {
        &self.target.label
    }

    /// The commit times are those of whole groups: the server's part in them cannot be told apart.
    pub(crate) fn stats(&self) -> DbStats {
        DbStats {
            commit_us: self.measures.commit_us.snapshot(),
            jobs_per_commit: self.measures.jobs_per_commit.snapshot(),
            groups_failed: self.measures.groups_failed.load(Ordering::Relaxed),
            writes_waiting: (self.queue.max_capacity() - self.queue.capacity()) as u64,
            reads_waiting: self.readers.waiting(),
        }
    }

    fn check(&self, params: &[Value]) -> Result<(), DbError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(DbError::Closed);
        }
        crate::value::check_text(params)
    }

    pub(crate) async fn short(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        self.check(params)?;
        self.readers.short(sql, params).await
    }

    pub(crate) async fn long(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        self.check(params)?;
        self.readers.long(sql, params).await
    }

    pub(crate) async fn apply(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        for statement in &statements {
            self.check(&statement.params)?;
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Batch(Batch { statements, reply }))
            .await?;
        answer.await.map_err(|_| DbError::Closed)?
    }

    pub(crate) async fn work(&self, work: Box<dyn Work>) -> Result<(), DbError> {
        self.send(Request::Work(work)).await
    }

    async fn send(&self, request: Request) -> Result<(), DbError> {
        self.check(&[])?;
        self.queue.send(request).await.map_err(|_| DbError::Closed)
    }

    pub(crate) async fn ping(self: &Arc<Self>) -> Result<(), DbError> {
        self.check(&[])?;
        let engine = Arc::clone(self);
        let pinging = self.handle.spawn(async move {
            let both = async {
                engine.short("SELECT 1", &[]).await?;
                engine.apply(vec![migration::beat()]).await
            };
            match tokio::time::timeout(PING_TIMEOUT, both).await {
                Ok(outcome) => outcome.map(|_| ()),
                Err(_) => Err(Fault::silent(engine.label(), PING_TIMEOUT).error),
            }
        });
        pinging.await.map_err(|_| DbError::Closed)?
    }

    pub(crate) async fn close(&self) -> Result<(), DbError> {
        let (reply, answer) = oneshot::channel();
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let sent = self.send(Request::Close(reply)).await;
        self.closed.store(true, Ordering::Release);
        if sent.is_ok() {
            let _ = answer.await;
        }
        self.readers.stop();
        Ok(())
    }

    pub(crate) fn migrate(
        &self,
        service: &'static str,
        migrations: &[Migration],
    ) -> Result<(), DbError> {
        self.check(&[])?;
        self.migrate_now(service, migrations.to_vec())
    }

    fn migrate_now(
        &self,
        service: &'static str,
        migrations: Vec<Migration>,
    ) -> Result<(), DbError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.queue
            .try_send(Request::Migrate {
                service,
                migrations,
                reply,
            })
            .map_err(|_| DbError::Unavailable("too many writes are waiting".to_owned()))?;
        answer.recv().map_err(|_| DbError::Closed)?
    }

    /// The plan for any parameters, as if tables were too large to be read whole.
    pub(crate) fn explain(&self, sql: &str) -> Result<Vec<String>, DbError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let target = Arc::clone(&self.target);
        let text = dialect::statement(sql).map_err(DbError::Other)?;
        let (sql, count) = (text.sql.into_owned(), text.parameters);
        self.handle.spawn(async move {
            let _ = reply.send(plan(&target, &sql, count).await.map_err(|f| f.error));
        });
        answer.recv().map_err(|_| DbError::Closed)?
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        self.readers.stop();
    }
}

/// The thread that owns the runtime: as long as the writer runs, and the moment that connections need
/// to end.
fn own(
    writer: Writer,
    requests: mpsc::Receiver<Request>,
    started: &std::sync::mpsc::SyncSender<Result<Handle, DbError>>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("db-postgres")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(DbError::Unavailable(format!(
                "cannot start the threads of the database: {error}"
            ))));
            return;
        }
    };
    let _ = started.send(Ok(runtime.handle().clone()));
    runtime.block_on(writer.run(requests));
    runtime.shutdown_timeout(STOP_TIMEOUT);
}

async fn plan(target: &Target, sql: &str, count: usize) -> Result<Vec<String>, Fault> {
    let session = Session::open(target, Purpose::Read).await?;
    session
        .command(&format!(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; \
             SET plan_cache_mode = force_generic_plan; PREPARE explained AS {sql}"
        ))
        .await?;
    let nulls = vec!["NULL"; count].join(", ");
    let arguments = if count == 0 {
        String::new()
    } else {
        format!("({nulls})")
    };
    let rows = session
        .read(&format!("EXPLAIN EXECUTE explained{arguments}"), &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| row.get::<String>(0))
        .collect::<Result<_, DbError>>()?)
}
