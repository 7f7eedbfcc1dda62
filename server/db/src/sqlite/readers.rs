//! The threads that run reads which may take longer than a point read.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;

use super::connection::{self, Access};
use crate::DbError;

/// Reads that may wait for a thread. Beyond it the server is overloaded and says so at once.
const QUEUE_MAX: usize = 4096;

pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

struct Queue {
    jobs: VecDeque<ReadJob>,
    stopped: bool,
}

/// Shared by the submitting tasks and the threads. The lock is held only to move a job in or out.
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

pub(super) struct Readers(Arc<Shared>);

impl Readers {
    pub(super) fn start(path: &Path) -> Result<Readers, DbError> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                stopped: false,
            }),
            wake: Condvar::new(),
        });
        let threads = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
        for number in 0..threads {
            let connection = connection::open(path, Access::Read)?;
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("db-read-{number}"))
                .spawn(move || shared.run(&connection))
                .map_err(|e| {
                    DbError::Unavailable(format!("cannot start a database thread: {e}"))
                })?;
        }
        Ok(Readers(shared))
    }

    pub(super) fn submit(&self, job: ReadJob) -> Result<(), DbError> {
        let mut queue = self.0.lock();
        if queue.stopped {
            return Err(DbError::Closed);
        }
        if queue.jobs.len() >= QUEUE_MAX {
            return Err(DbError::Unavailable(format!(
                "{QUEUE_MAX} reads are waiting already"
            )));
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Jobs that no thread has taken yet.
    pub(super) fn waiting(&self) -> u64 {
        self.0.lock().jobs.len() as u64
    }

    /// Lets the threads end after the job in hand; jobs still queued are dropped, which answers their
    /// callers with "closed".
    pub(super) fn stop(&self) {
        let mut queue = self.0.lock();
        queue.stopped = true;
        queue.jobs.clear();
        drop(queue);
        self.0.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, connection: &Connection) {
        loop {
            let mut queue = self.lock();
            let job = loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.stopped {
                    return;
                }
                queue = self
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            job(connection);
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop();
    }
}
