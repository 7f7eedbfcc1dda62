//! The embedded engine.
//!
//! One writer thread owns the only writing connection; reader threads and the calling threads own
//! read-only connections. All of them live in write-ahead-log mode, so readers never wait for the
//! writer. Several processes may open the same file (administration verbs beside a running server):
//! SQLite's own locks serialise their writes.

mod backup;
mod connection;
mod readers;
mod writer;

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::migration::{self, Migration};
use crate::tx::Work;
use crate::{DbError, DbStats, Row, Statement, Value};
use connection::Access;
use readers::Readers;
pub(crate) use writer::Tx;
use writer::Writer;

/// Numbers the open databases of this process, so that a thread's own connections cannot be mixed up.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Sqlite {
    id: u64,
    path: PathBuf,
    /// Also the liveness mark of the thread-local connections.
    closed: Arc<AtomicBool>,
    writer: Writer,
    readers: Readers,
}

struct LocalConnection {
    id: u64,
    owner: Weak<AtomicBool>,
    connection: Connection,
}

thread_local! {
    /// Read-only connections of this thread, one a database. A handful at most, so a list is enough.
    static LOCAL: RefCell<Vec<LocalConnection>> = const { RefCell::new(Vec::new()) };
}

impl Sqlite {
    pub(crate) fn open(path: &Path) -> Result<Arc<Sqlite>, DbError> {
        connection::create_private(path)?;
        let writing = connection::open(path, Access::Write)?;
        let readers = Readers::start(path)?;
        let writer = Writer::start(writing)?;
        Ok(Arc::new(Sqlite {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path: path.to_owned(),
            closed: Arc::new(AtomicBool::new(false)),
            writer,
            readers,
        }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn check_open(&self) -> Result<(), DbError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(DbError::Closed);
        }
        Ok(())
    }

    /// Runs `work` with this thread's connection, opening it first if need be.
    fn with_local<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        self.check_open()?;
        LOCAL.with_borrow_mut(|list| {
            if let Some(local) = list.iter().find(|local| local.id == self.id) {
                return work(&local.connection);
            }
            // Connections of databases that are gone or closed are dropped when a new one comes.
            list.retain(|local| {
                local
                    .owner
                    .upgrade()
                    .is_some_and(|closed| !closed.load(Ordering::Acquire))
            });
            let connection = connection::open(&self.path, Access::Read)?;
            list.push(LocalConnection {
                id: self.id,
                owner: Arc::downgrade(&self.closed),
                connection,
            });
            let local = list.last().ok_or(DbError::Closed)?;
            work(&local.connection)
        })
    }

    pub(crate) fn read_here(
        &self,
        sql: &str,
        params: &[Value],
        limit: usize,
    ) -> Result<Vec<Row>, DbError> {
        self.with_local(|connection| connection::read(connection, sql, params, limit))
    }

    pub(crate) async fn query(
        &self,
        sql: Cow<'static, str>,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, DbError> {
        self.check_open()?;
        let (reply, answer) = oneshot::channel();
        self.readers.submit(Box::new(move |connection| {
            // A caller that has gone away costs nothing but its place in the queue.
            if !reply.is_closed() {
                let _ = reply.send(connection::read(connection, &sql, &params, usize::MAX));
            }
        }))?;
        answer.await.map_err(|_| DbError::Closed)?
    }

    pub(crate) async fn apply(&self, batch: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        self.check_open()?;
        self.writer.apply(batch).await
    }

    /// Hands work to the writer thread; the outcome comes through the work's own channel.
    pub(crate) async fn work(&self, work: Box<dyn Work>) -> Result<(), DbError> {
        self.check_open()?;
        self.writer.work(work).await
    }

    pub(crate) async fn ping(&self) -> Result<(), DbError> {
        self.read_here("SELECT 1", &[], 1)?;
        self.apply(vec![crate::migration::beat()]).await.map(|_| ())
    }

    pub(crate) async fn checkpoint(&self) -> Result<(), DbError> {
        self.check_open()?;
        self.writer.checkpoint().await
    }

    pub(crate) async fn close(&self) -> Result<(), DbError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.readers.stop();
        self.writer.close().await
    }

    pub(crate) async fn backup_to(
        &self,
        to: &Path,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<(), DbError> {
        self.check_open()?;
        let (from, to) = (self.path.clone(), to.to_owned());
        tokio::task::spawn_blocking(move || backup::run(&from, &to, progress))
            .await
            .map_err(|error| DbError::Other(format!("the backup failed: {error}")))?
    }

    pub(crate) fn stats(&self) -> DbStats {
        DbStats {
            reads_waiting: self.readers.waiting(),
            ..self.writer.stats()
        }
    }

    pub(crate) fn explain(&self, sql: &str) -> Result<Vec<String>, DbError> {
        self.with_local(|connection| {
            let plan = format!("EXPLAIN QUERY PLAN {sql}");
            connection::read(connection, &plan, &vec![Value::Null; 99], usize::MAX)?
                .iter()
                .map(|row| row.get::<String>(3))
                .collect()
        })
    }

    pub(crate) fn migrate(
        &self,
        service: &'static str,
        migrations: &[Migration],
    ) -> Result<(), DbError> {
        self.check_open()?;
        let doing = |what: &str| format!("{what} the schema of {service}");
        let mut connection = connection::open(&self.path, Access::Write)?;
        // Immediate: two programs that start at the same time migrate one after the other.
        let tx = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|e| DbError::sqlite(&e, &doing("locking")))?;
        let applied: Vec<(u32, String)> = connection::read(
            &tx,
            "SELECT version, fingerprint FROM schema_migrations WHERE service = $1 ORDER BY version",
            &[Value::from(service)],
            usize::MAX,
        )?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect::<Result<_, DbError>>()?;
        for step in migration::outstanding(service, migrations, &applied)? {
            tx.execute_batch(step.sql).map_err(|e| {
                DbError::sqlite(
                    &e,
                    &format!("{} ({} {})", doing("migrating"), step.version, step.name),
                )
            })?;
            connection::write(
                &tx,
                "INSERT INTO schema_migrations (service, version, name, fingerprint) VALUES ($1, $2, $3, $4)",
                &[
                    service.into(),
                    step.version.into(),
                    step.name.into(),
                    step.fingerprint().into(),
                ],
            )?;
        }
        tx.commit()
            .map_err(|e| DbError::sqlite(&e, &doing("committing")))
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        self.readers.stop();
    }
}
