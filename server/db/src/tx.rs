//! The interactive transaction, as the caller sees it on either engine.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::{DbError, Row, Value, postgres, sqlite};

/// A write transaction in progress.
pub struct Tx<'a>(Engine<'a>);

enum Engine<'a> {
    Sqlite(sqlite::Tx<'a>),
    Postgres(postgres::Tx<'a>),
}

impl<'a> Tx<'a> {
    pub(crate) fn sqlite(tx: sqlite::Tx<'a>) -> Tx<'a> {
        Tx(Engine::Sqlite(tx))
    }

    pub(crate) fn postgres(tx: postgres::Tx<'a>) -> Tx<'a> {
        Tx(Engine::Postgres(tx))
    }

    /// Reads rows; sees the writes of this transaction.
    ///
    /// # Errors
    /// Any [`DbError`] of a read.
    pub fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        crate::value::check_text(params)?;
        match &mut self.0 {
            Engine::Sqlite(tx) => tx.query(sql, params),
            Engine::Postgres(tx) => tx.query(sql, params),
        }
    }

    /// Runs a writing statement; returns the number of rows touched.
    ///
    /// # Errors
    /// Any [`DbError`] of a write. The statement alone is undone then; the transaction goes on.
    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        crate::value::check_text(params)?;
        match &mut self.0 {
            Engine::Sqlite(tx) => tx.execute(sql, params),
            Engine::Postgres(tx) => tx.execute(sql, params),
        }
    }
}

/// The work of one transaction, stripped of its types. It keeps its own outcome between `run` and
/// `finish`.
pub(crate) trait Work: Send {
    /// Does the work; `false` asks for a rollback.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Tells the caller; `committed` is an error when the work was undone although it succeeded.
    fn finish(self: Box<Self>, committed: Result<(), DbError>);
}

/// Where the outcome of a work arrives.
pub(crate) type Answer<T, E> = oneshot::Receiver<Result<T, E>>;

/// Wraps a caller's closure.
pub(crate) fn work<T, E, F>(work: F) -> (Box<dyn Work>, Answer<T, E>)
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job = Closure {
        work: Some(work),
        outcome: None,
        reply,
    };
    (Box::new(job), answer)
}

struct Closure<T, E, F> {
    work: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Work for Closure<T, E, F>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<DbError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        self.outcome = catch_unwind(AssertUnwindSafe(|| work(tx)))
            .unwrap_or_else(|_| {
                Err(E::from(DbError::Other(
                    "the work inside a transaction panicked".to_owned(),
                )))
            })
            .into();
        matches!(self.outcome, Some(Ok(_)))
    }

    fn finish(self: Box<Self>, committed: Result<(), DbError>) {
        let outcome = match (self.outcome, committed) {
            // The work's own error is the more precise one.
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(E::from(error)),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(E::from(DbError::Closed)),
        };
        let _ = self.reply.send(outcome);
    }
}
