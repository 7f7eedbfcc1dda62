//! The writer thread and its group commit.
//!
//! Callers put jobs into one bounded queue and wait. The thread takes what is there, runs each job
//! inside its own SAVEPOINT of one transaction, commits once, and only then answers everybody. While
//! the disk works on one commit the next group gathers, so the group grows with the load by itself.
//! A job that fails is rolled back to its savepoint and leaves its neighbours untouched.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tokio::sync::{mpsc, oneshot};

use super::connection;
use crate::measure::{DbStats, Measures};
use crate::tx::Work;
use crate::{DbError, Row, Statement, Value};

/// Jobs under one commit.
const GROUP_MAX: usize = 512;
/// Jobs that may wait; further callers wait before they may queue (back-pressure).
const QUEUE_MAX: usize = 4096;
/// A group that has already run for this long is committed, however many jobs wait.
const GROUP_TIME_MAX: Duration = Duration::from_millis(20);
/// Pages in the log before the writer moves them into the main file (4 KiB each).
const CHECKPOINT_PAGES: i32 = 4096;

/// A write transaction in progress on the writer thread.
pub(crate) struct Tx<'a> {
    connection: &'a Connection,
}

impl Tx<'_> {
    pub(crate) fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        connection::read(self.connection, sql, params, usize::MAX)
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        connection::write(self.connection, sql, params)
    }
}

/// What the thread is asked to do.
enum Request {
    Job(Box<dyn Job>),
    Checkpoint(oneshot::Sender<Result<(), DbError>>),
    Close(oneshot::Sender<Result<(), DbError>>),
}

/// A job keeps its own outcome between `run` and `finish`.
trait Job: Send {
    /// Does the work; `false` asks for a rollback of this job alone.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the caller; `group` is an error when the work was undone with its whole group.
    fn finish(self: Box<Self>, group: Result<(), DbError>);
}

struct BatchJob {
    batch: Vec<Statement>,
    outcome: Option<Result<Vec<u64>, DbError>>,
    reply: oneshot::Sender<Result<Vec<u64>, DbError>>,
}

impl Job for BatchJob {
    fn run(&mut self, connection: &Connection) -> bool {
        let outcome: Result<Vec<u64>, DbError> = self
            .batch
            .iter()
            .enumerate()
            .map(|(index, statement)| {
                let touched = connection::write(connection, &statement.sql, &statement.params)?;
                if statement.expect.met(touched) {
                    Ok(touched)
                } else {
                    Err(DbError::Conflict { index })
                }
            })
            .collect();
        let kept = outcome.is_ok();
        self.outcome = Some(outcome);
        kept
    }

    fn finish(self: Box<Self>, group: Result<(), DbError>) {
        let outcome = match (self.outcome, group) {
            // The job's own error is the more precise one.
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(counts)), Ok(())) => Ok(counts),
            (None, Ok(())) => Err(DbError::Closed),
        };
        let _ = self.reply.send(outcome);
    }
}

struct WorkJob(Box<dyn Work>);

impl Job for WorkJob {
    fn run(&mut self, connection: &Connection) -> bool {
        self.0.run(&mut crate::Tx::sqlite(Tx { connection }))
    }

    fn finish(self: Box<Self>, group: Result<(), DbError>) {
        self.0.finish(group);
    }
}

pub(super) struct Writer {
    queue: mpsc::Sender<Request>,
    measures: Arc<Measures>,
}

impl Writer {
    pub(super) fn start(mut connection: Connection) -> Result<Writer, DbError> {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        connection
            .wal_hook(Some(note_log_pages))
            .map_err(|e| DbError::sqlite(&e, "watching the write-ahead log"))?;
        let measures = Arc::new(Measures::default());
        let thread = WriterThread {
            connection,
            measures: Arc::clone(&measures),
        };
        thread::Builder::new()
            .name("db-write".to_owned())
            .spawn(move || thread.run(requests))
            .map_err(|e| {
                DbError::Unavailable(format!("cannot start the database writer thread: {e}"))
            })?;
        Ok(Writer { queue, measures })
    }

    pub(super) async fn apply(&self, batch: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Job(Box::new(BatchJob {
            batch,
            outcome: None,
            reply,
        })))
        .await?;
        answer.await.map_err(|_| DbError::Closed)?
    }

    pub(super) async fn work(&self, work: Box<dyn Work>) -> Result<(), DbError> {
        self.send(Request::Job(Box::new(WorkJob(work)))).await
    }

    pub(super) async fn checkpoint(&self) -> Result<(), DbError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Checkpoint(reply)).await?;
        answer.await.map_err(|_| DbError::Closed)?
    }

    pub(super) async fn close(&self) -> Result<(), DbError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Close(reply)).await?;
        answer.await.map_err(|_| DbError::Closed)?
    }

    pub(super) fn stats(&self) -> DbStats {
        DbStats {
            commit_us: self.measures.commit_us.snapshot(),
            jobs_per_commit: self.measures.jobs_per_commit.snapshot(),
            groups_failed: self.measures.groups_failed.load(Ordering::Relaxed),
            writes_waiting: (self.queue.max_capacity() - self.queue.capacity()) as u64,
            reads_waiting: 0,
        }
    }

    async fn send(&self, request: Request) -> Result<(), DbError> {
        self.queue.send(request).await.map_err(|_| DbError::Closed)
    }
}

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread's connection.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

fn note_log_pages(_: &mut Wal, pages: i32) -> rusqlite::Result<()> {
    LOG_PAGES.set(pages);
    Ok(())
}

/// Owns the writing connection. Ends when the queue closes or on request.
struct WriterThread {
    connection: Connection,
    measures: Arc<Measures>,
}

impl WriterThread {
    fn run(self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        let mut threshold = CHECKPOINT_PAGES;
        while closing.is_none() {
            let Some(first) = requests.blocking_recv() else {
                break;
            };
            closing = self.serve(first, &mut requests);
            let pages = LOG_PAGES.get();
            if pages >= threshold {
                // Passive: readers are never made to wait, but a long read may keep some pages back.
                threshold = match self.checkpoint_now("PASSIVE") {
                    Ok(true) => CHECKPOINT_PAGES,
                    Ok(false) => pages.saturating_add(CHECKPOINT_PAGES / 4),
                    Err(error) => {
                        tracing::warn!(%error, "checkpoint of the database failed");
                        pages.saturating_add(CHECKPOINT_PAGES / 4)
                    }
                };
                LOG_PAGES.set(0);
            }
        }
        requests.close();
        // What was queued behind the request to close is still served: it was accepted.
        while let Ok(request) = requests.try_recv() {
            let _ = self.serve(request, &mut requests);
        }
        let last = self.checkpoint_now("TRUNCATE").map(|_| ());
        drop(self.connection);
        if let Some(reply) = closing {
            let _ = reply.send(last);
        }
    }

    /// Serves one group that starts with `first`. Returns the sender to answer when asked to close.
    fn serve(
        &self,
        first: Request,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<oneshot::Sender<Result<(), DbError>>> {
        let mut jobs = Vec::new();
        let mut other = None;
        match first {
            Request::Job(job) => jobs.push(job),
            request => other = Some(request),
        }
        let mut committed = Ok(());
        if !jobs.is_empty() {
            (jobs, committed, other) = self.group(jobs, requests);
        }
        for job in jobs {
            job.finish(committed.clone());
        }
        match other {
            Some(Request::Close(reply)) => return Some(reply),
            Some(Request::Checkpoint(reply)) => {
                let _ = reply.send(self.checkpoint_now("PASSIVE").map(|_| ()));
            }
            Some(Request::Job(_)) | None => {}
        }
        None
    }

    /// Runs jobs until the queue is empty, the group is full, or something that is not a job comes.
    #[expect(clippy::type_complexity, reason = "one caller, three results")]
    fn group(
        &self,
        mut jobs: Vec<Box<dyn Job>>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> (Vec<Box<dyn Job>>, Result<(), DbError>, Option<Request>) {
        if let Err(e) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            return (jobs, Err(DbError::sqlite(&e, "starting a write")), None);
        }
        let started = Instant::now();
        let mut other = None;
        let mut next = 0;
        let outcome = loop {
            if let Err(error) = self.run_job(jobs[next].as_mut()) {
                break Err(error);
            }
            next += 1;
            if next >= GROUP_MAX || started.elapsed() > GROUP_TIME_MAX {
                break Ok(());
            }
            match requests.try_recv() {
                Ok(Request::Job(job)) => jobs.push(job),
                Ok(request) => {
                    other = Some(request);
                    break Ok(());
                }
                Err(_) => break Ok(()),
            }
        };
        let outcome = outcome.and_then(|()| {
            let begun = Instant::now();
            let committed = self
                .connection
                .execute_batch("COMMIT")
                .map_err(|e| DbError::sqlite(&e, "committing"));
            let took = begun.elapsed().as_micros();
            let measures = &self.measures;
            measures
                .commit_us
                .record(u64::try_from(took).unwrap_or(u64::MAX));
            measures.jobs_per_commit.record(jobs.len() as u64);
            committed
        });
        if outcome.is_err() {
            self.measures.groups_failed.fetch_add(1, Ordering::Relaxed);
        }
        if outcome.is_err() && !self.connection.is_autocommit() {
            // The engine still holds the failed transaction: give it up, nobody was told it succeeded.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        (jobs, outcome, other)
    }

    /// Runs one job in its savepoint. An error means that the whole group is lost.
    fn run_job(&self, job: &mut dyn Job) -> Result<(), DbError> {
        let run = |sql: &str| connection::write(&self.connection, sql, &[]);
        run("SAVEPOINT job")?;
        let keep = job.run(&self.connection);
        if self.connection.is_autocommit() {
            // A full disk or an I/O error makes the engine roll back everything.
            return Err(DbError::Unavailable(
                "the engine gave up the transaction (disk full or I/O error)".to_owned(),
            ));
        }
        if !keep {
            run("ROLLBACK TO job")?;
        }
        run("RELEASE job").map(|_| ())
    }

    /// `true` when the whole log was moved.
    fn checkpoint_now(&self, mode: &str) -> Result<bool, DbError> {
        self.connection
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
            })
            .map_err(|e| DbError::sqlite(&e, "checkpointing"))
    }
}
