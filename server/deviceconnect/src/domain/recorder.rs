//! Writes the recording of one shell session while it goes on.
//!
//! A task of its own, fed through a bounded channel: the terminal never waits for the disk unless the
//! disk cannot follow at all. Ends when its feeder is dropped; [`Recorder::finish`] waits for that.

use std::time::Duration;

use ambidex_access::TenantId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::audit;
use super::recording::{Part, What};
use crate::store::session::Session;
use crate::{DeviceconnectError, Inner, store};
use std::sync::Arc;

/// A part is written when it has this many bytes...
const PART_BYTES: usize = 16 << 10;
/// ...or is this old, so that a crash loses a few seconds at most.
const PART_AGE: Duration = Duration::from_secs(5);
/// Events that wait to be written.
const QUEUE: usize = 256;

pub(crate) struct Recorder {
    events: mpsc::Sender<(u64, What)>,
    task: JoinHandle<()>,
    started: Instant,
}

impl Recorder {
    /// Records the beginning, with its audit event, and starts writing.
    pub(crate) async fn start(
        inner: &Arc<Inner>,
        tenant: &TenantId,
        session: Session,
    ) -> Result<Recorder, DeviceconnectError> {
        let event = audit::terminal(
            audit::OPEN_TERMINAL,
            &session.user_id,
            &session.device_id,
            &session.session_id,
            session.started_ms,
        );
        inner
            .db
            .apply(vec![
                store::session::insert(tenant.as_str(), &inner.instance, &session),
                audit::statement(inner, tenant.as_str(), &event),
            ])
            .await?;
        inner.jobs.wake();
        let (events, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            inner: Arc::clone(inner),
            tenant: tenant.clone(),
            session,
            next_part: 0,
        };
        Ok(Recorder {
            events,
            task: tokio::spawn(writer.run(queue)),
            started: Instant::now(),
        })
    }

    pub(crate) async fn record(&self, what: What) {
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A writer that failed has said so; the terminal goes on.
        let _ = self.events.send((at_ms, what)).await;
    }

    /// Waits until everything is written and the end is recorded.
    pub(crate) async fn finish(self) {
        drop(self.events);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the recording of a session was not finished");
        }
    }
}

struct Writer {
    inner: Arc<Inner>,
    tenant: TenantId,
    session: Session,
    next_part: i64,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<(u64, What)>) {
        let mut part = Part::default();
        let mut due = None;
        loop {
            let event = match due {
                None => queue.recv().await.map(Some),
                Some(due) => timeout_at(due, queue.recv())
                    .await
                    .map_or(Some(None), |event| event.map(Some)),
            };
            match event {
                // The end of the session.
                None => break,
                Some(Some((at_ms, what))) => {
                    part.push(at_ms, &what);
                    due = due.or(Some(Instant::now() + PART_AGE));
                    if part.len() < PART_BYTES {
                        continue;
                    }
                }
                // Old enough.
                Some(None) => {}
            }
            self.write(std::mem::take(&mut part)).await;
            due = None;
        }
        self.write(part).await;
        self.end().await;
    }

    async fn write(&mut self, part: Part) {
        if part.len() == 0 {
            return;
        }
        let (tenant, id) = (self.tenant.as_str(), self.session.session_id.as_str());
        let data = match part.compress() {
            Ok(data) => data,
            Err(error) => return tracing::error!(%error, "a part of a recording cannot be packed"),
        };
        let batch = vec![
            store::recording::insert(tenant, id, self.next_part, data),
            store::session::grow(tenant, id, part.output_bytes()),
        ];
        self.next_part += 1;
        if let Err(error) = self.inner.db.apply(batch).await {
            tracing::error!(%error, session = id, "a part of a recording was lost");
        }
    }

    async fn end(&self) {
        let session = &self.session;
        let now_ms = self.inner.clock.now_ms();
        let event = audit::terminal(
            audit::CLOSE_TERMINAL,
            &session.user_id,
            &session.device_id,
            &session.session_id,
            now_ms,
        );
        let tenant = self.tenant.as_str();
        let batch = vec![
            store::session::end(tenant, &session.session_id, now_ms).expect_one(),
            audit::statement(&self.inner, tenant, &event),
        ];
        match self.inner.db.apply(batch).await {
            Ok(_) => self.inner.jobs.wake(),
            // The tenant is gone, or another instance ended it.
            Err(ambidex_db::DbError::Conflict { .. }) => {}
            Err(error) => tracing::error!(%error, "the end of a session was not recorded"),
        }
    }
}
