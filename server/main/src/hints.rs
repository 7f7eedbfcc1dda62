//! Tells other instances that there are jobs, and listens to them.
//!
//! Hints only: a lost one costs the few seconds until the next look at the table. Many wakes in a row
//! become one message.

use std::sync::Arc;

use ambidex_bus::{Bus, BusError};
use ambidex_jobs::Jobs;
use bytes::Bytes;
use tokio::sync::Notify;

const SUBJECT: &str = "jobs.ready";

/// Connects the jobs of this process with those of others.
#[derive(Clone)]
pub(crate) struct Hints {
    bus: Bus,
    jobs: Jobs,
    pending: Arc<Notify>,
    instance: Bytes,
}

impl Hints {
    pub(crate) fn new(bus: Bus, jobs: Jobs) -> Hints {
        let pending = Arc::new(Notify::new());
        if bus.is_shared() {
            let pending = Arc::clone(&pending);
            jobs.on_wake(move || pending.notify_one());
        }
        Hints {
            bus,
            jobs,
            pending,
            instance: Bytes::from(uuid::Uuid::new_v4().to_string()),
        }
    }

    /// Forwards hints both ways until dropped. Waits for ever when there are no other instances.
    pub(crate) async fn run(&self) {
        if !self.bus.is_shared() {
            return std::future::pending().await;
        }
        if let Err(error) = self.forward().await {
            tracing::warn!(%error, "hints about jobs stop for a moment");
        }
    }

    async fn forward(&self) -> Result<(), BusError> {
        let mut hints = self.bus.subscribe(SUBJECT).await?;
        loop {
            tokio::select! {
                () = self.pending.notified() => {
                    // While NATS is away the others find the jobs by looking.
                    if let Err(error) = self.bus.publish(SUBJECT, self.instance.clone()).await {
                        tracing::debug!(%error, "a hint about jobs is lost");
                    }
                }
                hint = hints.next() => match hint {
                    Some(hint) if hint.payload == self.instance => {}
                    Some(_) => self.jobs.wake_here(),
                    None => return Ok(()),
                },
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use std::time::Duration;

    use ambidex_db::Db;
    use ambidex_harness::Nats;
    use ambidex_jobs::{Handler, Job, JobError, Settings};
    use ambidex_kit::{BoxFuture, Clock};
    use tokio::sync::mpsc;

    struct Tell(mpsc::UnboundedSender<String>);

    impl Handler for Tell {
        fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
            let _ = self.0.send(job.payload.to_string());
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test]
    async fn a_job_that_one_instance_asks_for_starts_in_another() {
        let dir = tempfile::tempdir().unwrap();
        let Some(nats) = Nats::start(dir.path(), &[]).await.unwrap() else {
            return;
        };
        let open = |name: &str| {
            let db = Db::open_sqlite(&dir.path().join(name)).unwrap();
            let settings = Settings {
                poll: Duration::from_secs(3600),
                ..Settings::default()
            };
            let jobs = Jobs::with_settings(db.clone(), Clock::system(), settings).unwrap();
            (db, jobs)
        };
        let ((_, one), (db, two)) = (open("one.db"), open("two.db"));
        let (told, mut heard) = mpsc::unbounded_channel();
        two.handle("tell", Arc::new(Tell(told)));
        for jobs in [&one, &two] {
            let bus = Bus::nats(&nats.url()).await.unwrap();
            let hints = Hints::new(bus, jobs.clone());
            tokio::spawn(async move { hints.run().await });
        }
        let runner = two.clone();
        tokio::spawn(async move { runner.run().await });
        for number in 0..20 {
            let job = two.enqueue("tell", "", &serde_json::json!(number));
            db.apply(vec![job]).await.unwrap();
            // The other instance may not listen yet; it does within moments.
            let payload = loop {
                one.wake();
                let wait = tokio::time::timeout(Duration::from_millis(200), heard.recv());
                if let Ok(payload) = wait.await {
                    break payload;
                }
            };
            assert_eq!(payload, Some(number.to_string()));
        }
    }

    #[tokio::test]
    async fn one_instance_alone_sends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&dir.path().join("jobs.db")).unwrap();
        let jobs = Jobs::new(db, Clock::system()).unwrap();
        let bus = Bus::local();
        let mut hints = bus.subscribe(SUBJECT).await.unwrap();
        let forwarder = Hints::new(bus.clone(), jobs.clone());
        let task = tokio::spawn(async move { forwarder.run().await });
        jobs.wake();
        tokio::task::yield_now().await;
        bus.publish(SUBJECT, Bytes::from_static(b"last"))
            .await
            .unwrap();
        assert_eq!(hints.next().await.unwrap().payload, "last");
        task.abort();
    }
}
