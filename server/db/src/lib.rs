//! The database seam: one SQL text, group-committed writes.
//!
//! A service keeps its statements as constants and talks to [`Db`] only: it never sees which engine
//! answers. Statements use the subset that SQLite and PostgreSQL share: numbered parameters (`$1`),
//! `ON CONFLICT`, `RETURNING`, `BIGINT` milliseconds, `TEXT` ids and JSON as `TEXT`.
//!
//! | call | runs on | use for |
//! |---|---|---|
//! | [`Db::point`], [`Db::points`] | the calling thread | reads whose plan is a search in an index and that return few rows |
//! | [`Db::query`] | reader threads | everything else that reads |
//! | [`Db::apply`] | the writer, many callers under one `fsync` | every ordinary write: an atomic batch, no dialogue |
//! | [`Db::transaction`] | the writer | the rare write that must look before it decides |
//!
//! A write that has returned is on the disk, and every read that starts afterwards sees it.
//! This crate knows no HTTP, no tenant and no service.

mod error;
mod measure;
mod migration;
mod postgres;
mod sqlite;
mod statement;
mod tx;
mod value;

pub use error::DbError;
pub use measure::{DbStats, Histogram, HistogramSnapshot, MICROSECONDS};
pub use migration::{AppliedMigration, Migration};
pub use statement::{Expect, Statement, statement};
pub use tx::Tx;
pub use value::{FromValue, Row, Value};

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// A database of either engine. Cloning is cheap; all clones share the writer and the readers.
#[derive(Clone)]
pub struct Db(Engine);

#[derive(Clone)]
enum Engine {
    Sqlite(Arc<sqlite::Sqlite>),
    Postgres(Arc<postgres::Postgres>),
}

impl Db {
    /// Opens or creates the embedded database at `path` (mode 0600) and starts its threads.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when the file or its directory cannot be opened or written,
    /// [`DbError::Corrupt`] when the file is not a database.
    pub fn open_sqlite(path: &Path) -> Result<Db, DbError> {
        Ok(Db(Engine::Sqlite(sqlite::Sqlite::open(path)?)))
    }

    /// Connects to the PostgreSQL database that `url` names (`postgres://user@host/database`). Several
    /// processes may use one database at the same time. Blocks: call it at start-up.
    ///
    /// # Errors
    /// [`DbError::Other`] when the URL is no good, [`DbError::Unavailable`] when the database cannot be
    /// reached or used. No error shows the password.
    pub fn open_postgres(url: &str) -> Result<Db, DbError> {
        Ok(Db(Engine::Postgres(postgres::Postgres::open(url)?)))
    }

    /// Whether other processes may be using the same database.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Engine::Postgres(_))
    }

    /// The database for humans: a path, or an address without user and password.
    pub fn label(&self) -> String {
        match &self.0 {
            Engine::Sqlite(engine) => engine.path().display().to_string(),
            Engine::Postgres(engine) => engine.label().to_owned(),
        }
    }

    /// Brings the tables of `service` up to date. Versions already applied are skipped; each version is
    /// applied whole or not at all. Blocks: call it at start-up.
    ///
    /// # Errors
    /// [`DbError::Other`] when versions are not ascending, when an applied version's text has changed,
    /// or when the database was written by a newer program.
    pub fn migrate(&self, service: &'static str, migrations: &[Migration]) -> Result<(), DbError> {
        match &self.0 {
            Engine::Sqlite(engine) => engine.migrate(service, migrations),
            Engine::Postgres(engine) => engine.migrate(service, migrations),
        }
    }

    /// Reads at most one row through a primary or unique index, on the calling thread (about 4 µs).
    /// A statement that scans a table would stall every request of this thread: use [`Db::query`] for it.
    ///
    /// # Errors
    /// Any [`DbError`] except `Conflict` and `UniqueViolation`.
    pub async fn point(&self, sql: &'static str, params: &[Value]) -> Result<Option<Row>, DbError> {
        value::check_text(params)?;
        match &self.0 {
            Engine::Sqlite(engine) => engine.read_here(sql, params, 1).map(|mut rows| rows.pop()),
            Engine::Postgres(engine) => {
                let rows = engine.short(sql, params).await?;
                Ok(rows.into_iter().next())
            }
        }
    }

    /// Like [`Db::point`] for an index range of a few rows (the statement carries its own `LIMIT`).
    ///
    /// # Errors
    /// As [`Db::point`].
    pub async fn points(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        value::check_text(params)?;
        match &self.0 {
            Engine::Sqlite(engine) => engine.read_here(sql, params, usize::MAX),
            Engine::Postgres(engine) => engine.short(sql, params).await,
        }
    }

    /// Reads rows on a reader thread.
    ///
    /// # Errors
    /// Any [`DbError`] except `Conflict` and `UniqueViolation`; `Unavailable` also when too many reads
    /// are waiting already.
    pub async fn query(
        &self,
        sql: impl Into<Cow<'static, str>>,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, DbError> {
        let sql = sql.into();
        value::check_text(&params)?;
        match &self.0 {
            Engine::Sqlite(engine) => engine.query(sql, params).await,
            Engine::Postgres(engine) => engine.long(&sql, &params).await,
        }
    }

    /// Applies a batch atomically and durably; returns the row count of each statement.
    ///
    /// Once this future has been polled the batch may be applied even if the future is dropped.
    ///
    /// # Errors
    /// [`DbError::Conflict`] with the index of the first statement whose expectation was not met and
    /// [`DbError::UniqueViolation`]: nothing of the batch was applied. Anything else: nothing was
    /// acknowledged.
    pub async fn apply(&self, batch: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        for statement in &batch {
            value::check_text(&statement.params)?;
        }
        match &self.0 {
            Engine::Sqlite(engine) => engine.apply(batch).await,
            Engine::Postgres(engine) => engine.apply(batch).await,
        }
    }

    /// Runs `work` on a thread of the engine inside a transaction; its effects are durable when this returns
    /// `Ok` and undone when `work` returns an error. All other writes wait meanwhile, so `work` must be
    /// short and must not block on anything but this transaction.
    ///
    /// # Errors
    /// The error of `work`, or a [`DbError`] turned into it.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (work, answer) = tx::work(work);
        match &self.0 {
            Engine::Sqlite(engine) => engine.work(work).await,
            Engine::Postgres(engine) => engine.work(work).await,
        }?;
        answer.await.map_err(|_| E::from(DbError::Closed))?
    }

    /// Proves that both reading and the writer work at this moment (health checks).
    ///
    /// # Errors
    /// What is wrong with the database.
    pub async fn ping(&self) -> Result<(), DbError> {
        match &self.0 {
            Engine::Sqlite(engine) => engine.ping().await,
            Engine::Postgres(engine) => engine.ping().await,
        }
    }

    /// Moves everything from the write-ahead log into the main file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn checkpoint(&self) -> Result<(), DbError> {
        match &self.0 {
            Engine::Sqlite(engine) => engine.checkpoint().await,
            // The server keeps its own log in order.
            Engine::Postgres(_) => Ok(()),
        }
    }

    /// Finishes the writes already accepted, checkpoints and stops the threads. Later calls get
    /// [`DbError::Closed`]. Dropping the last clone does the same without waiting.
    ///
    /// # Errors
    /// When the last checkpoint failed; every acknowledged write is durable nevertheless.
    pub async fn close(&self) -> Result<(), DbError> {
        match &self.0 {
            Engine::Sqlite(engine) => engine.close().await,
            Engine::Postgres(engine) => engine.close().await,
        }
    }

    /// Writes one moment of the database into a new file at `to` (mode 0600), while reads and writes go on, and checks
    /// the copy. `progress` is told bytes done and bytes in all. A file that is there already is an error.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when a file cannot be read or written, [`DbError::Corrupt`] when the copy is damaged,
    /// [`DbError::Other`] on PostgreSQL, which has its own tools.
    pub async fn backup_to(
        &self,
        to: &Path,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<(), DbError> {
        match &self.0 {
            Engine::Sqlite(engine) => engine.backup_to(to, progress).await,
            Engine::Postgres(_) => Err(DbError::Other(
                "PostgreSQL has its own tools for this: use pg_dump".to_owned(),
            )),
        }
    }

    /// The schema steps that have been applied, in order of service and version.
    ///
    /// # Errors
    /// As [`Db::query`].
    pub async fn applied_migrations(&self) -> Result<Vec<AppliedMigration>, DbError> {
        let rows = self.query(migration::APPLIED, Vec::new()).await?;
        rows.iter().map(AppliedMigration::from_row).collect()
    }

    /// What the engine did so far and what waits (metrics).
    pub fn stats(&self) -> DbStats {
        match &self.0 {
            Engine::Sqlite(engine) => engine.stats(),
            Engine::Postgres(engine) => engine.stats(),
        }
    }

    /// The engine's plan for a statement, one line a step. Tests use it to prove that statements given
    /// to [`Db::point`] search an index.
    ///
    /// # Errors
    /// When the statement does not prepare.
    pub fn explain(&self, sql: &str) -> Result<Vec<String>, DbError> {
        match &self.0 {
            Engine::Sqlite(engine) => engine.explain(sql),
            Engine::Postgres(engine) => engine.explain(sql),
        }
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Engine::Sqlite(engine) => f.debug_tuple("Db::Sqlite").field(&engine.path()).finish(),
            Engine::Postgres(engine) => f
                .debug_tuple("Db::Postgres")
                .field(&engine.label())
                .finish(),
        }
    }
}
