//! Jobs over a real database: at least once, whatever happens to the process.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambidex_db::{Db, params, statement};
use ambidex_jobs::{Handler, Job, JobError, Jobs, Settings};
use ambidex_kit::{BoxFuture, Clock};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;

const START_MS: i64 = 1_700_000_000_000;
const LEASE: Duration = Duration::from_secs(30);

struct Rig {
    _dir: TempDir,
    db: Db,
    clock: Clock,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        Rig {
            _dir: dir,
            db,
            clock: Clock::manual(START_MS),
        }
    }

    /// Another process on the same database.
    fn process(&self, handler: Arc<dyn Handler>) -> Jobs {
        self.process_of(handler, 8)
    }

    fn process_of(&self, handler: Arc<dyn Handler>, concurrency: usize) -> Jobs {
        self.process_with(handler, concurrency, LEASE)
    }

    fn process_with(&self, handler: Arc<dyn Handler>, concurrency: usize, lease: Duration) -> Jobs {
        let settings = Settings {
            concurrency,
            lease,
            poll: Duration::from_millis(20),
            retention: Duration::from_secs(3600),
        };
        let jobs = Jobs::with_settings(self.db.clone(), self.clock.clone(), settings).unwrap();
        jobs.handle("test", handler);
        jobs
    }

    async fn enqueue(&self, jobs: &Jobs, id: &str) {
        let job = jobs.enqueue_with_id("test", "t1", id, &json!({ "id": id }));
        self.db.apply(vec![job]).await.unwrap();
        jobs.wake();
    }

    async fn due_ms(&self) -> i64 {
        let row = self.db.point("SELECT MIN(due_ms) FROM jobs_jobs", &[]);
        row.await.unwrap().unwrap().get(0).unwrap()
    }

    async fn rows(&self) -> usize {
        let rows = self.db.query("SELECT id FROM jobs_jobs", vec![]);
        rows.await.unwrap().len()
    }
}

/// What an attempt is told to do.
type Plan = Box<dyn Fn(&Job) -> Result<(), JobError> + Send + Sync>;

/// Counts runs by job and waits for a permit before each end.
struct Worker {
    started: Semaphore,
    gate: Semaphore,
    runs: Mutex<BTreeMap<String, usize>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    plan: Plan,
}

impl Worker {
    fn new(permits: usize, plan: Plan) -> Arc<Worker> {
        Arc::new(Worker {
            started: Semaphore::new(0),
            gate: Semaphore::new(permits),
            runs: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            plan,
        })
    }

    fn open() -> Arc<Worker> {
        Worker::new(Semaphore::MAX_PERMITS, Box::new(|_| Ok(())))
    }

    fn stuck() -> Arc<Worker> {
        Worker::new(0, Box::new(|_| Ok(())))
    }

    fn runs(&self, id: &str) -> usize {
        self.runs.lock().unwrap().get(id).copied().unwrap_or(0)
    }

    async fn has_started(&self, jobs: u32) {
        self.started.acquire_many(jobs).await.unwrap().forget();
    }
}

impl Handler for Worker {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            *self.runs.lock().unwrap().entry(job.id.clone()).or_default() += 1;
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            self.started.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            (self.plan)(job)
        })
    }

    fn attempts_max(&self) -> u32 {
        4
    }
}

async fn wait_for(mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_job_exists_exactly_if_its_change_does() {
    let rig = Rig::new();
    let worker = Worker::open();
    let jobs = rig.process(worker.clone());
    let impossible = statement(
        "UPDATE jobs_jobs SET attempts = 9 WHERE tenant_id = $1",
        params!["nobody"],
    )
    .expect_one();
    let batch = vec![jobs.enqueue("test", "t1", &json!({})), impossible];
    rig.db.apply(batch).await.unwrap_err();
    assert_eq!(jobs.run_due().await.unwrap(), 0);
    rig.enqueue(&jobs, "one").await;
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    assert_eq!((worker.runs("one"), rig.rows().await), (1, 0));
}

#[tokio::test]
async fn waking_starts_a_job_at_once_and_polling_finds_it_anyway() {
    let rig = Rig::new();
    let worker = Worker::open();
    let jobs = rig.process(worker.clone());
    let runner = tokio::spawn({
        let jobs = jobs.clone();
        async move { jobs.run().await }
    });
    rig.enqueue(&jobs, "woken").await;
    worker.has_started(1).await;
    let quiet = jobs.enqueue_with_id("test", "t1", "quiet", &json!({}));
    rig.db.apply(vec![quiet]).await.unwrap();
    worker.has_started(1).await;
    wait_for(async || rig.rows().await == 0).await;
    runner.abort();
}

#[tokio::test]
async fn two_processes_run_each_job_once() {
    let rig = Rig::new();
    let worker = Worker::open();
    let (one, two) = (rig.process(worker.clone()), rig.process(worker.clone()));
    let batch = (0..200)
        .map(|n| one.enqueue_with_id("test", "t1", &n.to_string(), &json!({})))
        .collect();
    rig.db.apply(batch).await.unwrap();
    let (first, second) = tokio::join!(one.run_due(), two.run_due());
    assert_eq!(first.unwrap() + second.unwrap(), 200);
    assert_eq!(rig.rows().await, 0);
    assert!(worker.runs.lock().unwrap().values().all(|runs| *runs == 1));
}

#[tokio::test]
async fn a_job_of_a_dead_process_is_taken_over_when_its_lease_has_run_out() {
    let rig = Rig::new();
    let (dying, healthy) = (Worker::stuck(), Worker::open());
    let first = rig.process(dying.clone());
    rig.enqueue(&first, "precious").await;
    let runner = tokio::spawn({
        let jobs = first.clone();
        async move { jobs.run().await }
    });
    dying.has_started(1).await;
    runner.abort();
    let _ = runner.await;

    let second = rig.process(healthy.clone());
    rig.clock.advance(29_000);
    assert_eq!(second.run_due().await.unwrap(), 0, "the lease still holds");
    rig.clock.advance(1_001);
    assert_eq!(second.run_due().await.unwrap(), 1);
    assert_eq!((healthy.runs("precious"), rig.rows().await), (1, 0));
}

#[tokio::test]
async fn a_process_that_has_the_database_to_itself_takes_over_at_once() {
    let rig = Rig::new();
    let (dying, healthy) = (Worker::stuck(), Worker::open());
    let first = rig.process(dying.clone());
    rig.enqueue(&first, "precious").await;
    let runner = tokio::spawn({
        let jobs = first.clone();
        async move { jobs.run().await }
    });
    dying.has_started(1).await;
    runner.abort();
    let _ = runner.await;

    let second = rig.process(healthy.clone());
    second.take_over().await.unwrap();
    // Where others may be at work on the database, the lease has to run out first.
    let at_once = usize::from(!rig.db.is_shared());
    assert_eq!(second.run_due().await.unwrap(), at_once);
}

#[tokio::test]
async fn a_living_process_keeps_its_lease_and_one_that_slept_too_long_stops() {
    let rig = Rig::new();
    let lease = Duration::from_millis(60);
    let (slow, other) = (Worker::stuck(), Worker::open());
    // With room for more, the first would take its own job anew when it finds the lease over.
    let first = rig.process_with(slow.clone(), 1, lease);
    let second = rig.process_with(other.clone(), 8, lease);
    rig.enqueue(&first, "long").await;
    let runner = tokio::spawn({
        let jobs = first.clone();
        async move { jobs.run().await }
    });
    slow.has_started(1).await;
    for _ in 0..3 {
        rig.clock.advance(40);
        let wanted = rig.clock.now_ms() + 60;
        wait_for(async || rig.due_ms().await == wanted).await;
        assert_eq!(second.run_due().await.unwrap(), 0, "the lease was renewed");
    }
    // The first process is suspended for longer than its lease.
    let mut taken = 0;
    while taken == 0 {
        // Unless a renewal comes in between.
        rig.clock.advance(1_000_000);
        taken = second.run_due().await.unwrap();
    }
    wait_for(async || first.tally().kinds()[0].1.leases_lost == 1).await;
    slow.gate.add_permits(1);
    assert_eq!((slow.runs("long"), other.runs("long")), (1, 1));
    assert_eq!(rig.rows().await, 0);
    runner.abort();
}

#[tokio::test]
async fn no_more_jobs_run_at_once_than_allowed() {
    let rig = Rig::new();
    let worker = Worker::stuck();
    let jobs = rig.process_of(worker.clone(), 3);
    for n in 0..10 {
        rig.enqueue(&jobs, &n.to_string()).await;
    }
    let runner = tokio::spawn({
        let jobs = jobs.clone();
        async move { jobs.run_due().await }
    });
    worker.has_started(3).await;
    worker.gate.add_permits(10);
    assert_eq!(runner.await.unwrap().unwrap(), 10);
    assert_eq!(worker.most_at_once.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_failing_job_is_tried_again_later_and_later_and_then_kept() {
    let rig = Rig::new();
    let worker = Worker::new(
        Semaphore::MAX_PERMITS,
        Box::new(|job| Err(JobError::retry(job, "the neighbour is away"))),
    );
    let jobs = rig.process(worker.clone());
    rig.enqueue(&jobs, "bad").await;
    for wait_ms in [1_000, 2_000, 4_000] {
        assert_eq!(jobs.run_due().await.unwrap(), 1);
        rig.clock.advance(wait_ms - 1);
        assert_eq!(jobs.run_due().await.unwrap(), 0);
        rig.clock.advance(1);
    }
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    rig.clock.advance(3_600_000);
    assert_eq!(
        jobs.run_due().await.unwrap(),
        0,
        "four attempts are allowed"
    );
    let failed = jobs.failed("test", 10).await.unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].cause, "the neighbour is away");
    assert_eq!(failed[0].attempts, 4);
    assert!(jobs.revive("t1", "bad").await.unwrap());
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    assert!(!jobs.revive("t1", "bad").await.unwrap());
}

#[tokio::test]
async fn failed_jobs_are_kept_for_a_while() {
    let rig = Rig::new();
    let worker = Worker::new(
        Semaphore::MAX_PERMITS,
        Box::new(|_| Err(JobError::failed("nonsense"))),
    );
    let jobs = rig.process(worker.clone());
    rig.enqueue(&jobs, "bad").await;
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    let counts = jobs.counts().await.unwrap();
    assert_eq!((counts[0].state.as_str(), counts[0].jobs), ("failed", 1));
    let prune = async || {
        let runner = tokio::spawn({
            let jobs = jobs.clone();
            async move { jobs.run().await }
        });
        let marker = Worker::open();
        jobs.handle("marker", marker.clone());
        let job = jobs.enqueue("marker", "t1", &json!({}));
        rig.db.apply(vec![job]).await.unwrap();
        jobs.wake();
        marker.has_started(1).await;
        runner.abort();
        jobs.failed("test", 10).await.unwrap().len()
    };
    assert_eq!(prune().await, 1);
    rig.clock.advance(3_600_001);
    assert_eq!(prune().await, 0);
}

#[tokio::test]
async fn a_panic_is_an_attempt() {
    let rig = Rig::new();
    let worker = Worker::new(
        Semaphore::MAX_PERMITS,
        Box::new(|job| {
            assert!(job.attempts > 1, "the first attempt panics");
            Ok(())
        }),
    );
    let jobs = rig.process(worker.clone());
    rig.enqueue(&jobs, "shaky").await;
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    assert_eq!(rig.rows().await, 1);
    rig.clock.advance(1_000);
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    assert_eq!(rig.rows().await, 0);
}

#[tokio::test]
async fn a_key_gathers_requests_and_one_that_comes_while_it_runs_is_not_lost() {
    let rig = Rig::new();
    let worker = Worker::stuck();
    let jobs = rig.process(worker.clone());
    let ask = async |n: i64, due_ms: i64| {
        let job = jobs.enqueue_unique_at("test", "t1", &json!({ "n": n }), "key", due_ms);
        rig.db.apply(vec![job]).await.unwrap();
    };
    ask(1, START_MS + 5_000).await;
    ask(2, START_MS).await;
    let other_tenant = jobs.enqueue_unique_at("test", "t2", &json!({}), "key", START_MS + 9_000);
    rig.db.apply(vec![other_tenant]).await.unwrap();
    assert_eq!(rig.rows().await, 2);
    let runner = tokio::spawn({
        let jobs = jobs.clone();
        async move { jobs.run_due().await }
    });
    worker.has_started(1).await;
    ask(3, START_MS).await;
    worker.gate.add_permits(1);
    worker.has_started(1).await;
    worker.gate.add_permits(1);
    assert_eq!(runner.await.unwrap().unwrap(), 2);
    assert_eq!(rig.rows().await, 1);
}

/// Leaves a mark in the table of jobs itself and ends its job in the same batch.
struct Exact {
    db: Db,
    jobs: Mutex<Option<Jobs>>,
}

impl Handler for Exact {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let jobs = self.jobs.lock().unwrap().clone().unwrap();
            let mark = jobs.enqueue("mark", "t1", &json!({}));
            let batch = vec![mark, jobs.done(job)];
            let applied = self.db.apply(batch).await;
            applied
                .map(drop)
                .map_err(|error| JobError::retry(job, error))
        })
    }
}

#[tokio::test]
async fn an_effect_in_one_batch_with_the_end_happens_exactly_once() {
    let rig = Rig::new();
    let exact = Arc::new(Exact {
        db: rig.db.clone(),
        jobs: Mutex::default(),
    });
    let jobs = rig.process(exact.clone());
    *exact.jobs.lock().unwrap() = Some(jobs.clone());
    rig.enqueue(&jobs, "x").await;
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    let counts = jobs.counts().await.unwrap();
    assert_eq!(counts.len(), 1);
    assert_eq!((counts[0].kind.as_str(), counts[0].jobs), ("mark", 1));
}

#[tokio::test]
async fn a_caller_can_wait_for_its_job() {
    let rig = Rig::new();
    let worker = Worker::new(
        Semaphore::MAX_PERMITS,
        Box::new(|job| match job.id.as_str() {
            "bad" => Err(JobError::retry(job, "away")),
            _ => Ok(()),
        }),
    );
    let jobs = rig.process(worker.clone());
    let limit = Duration::from_secs(20);
    rig.enqueue(&jobs, "good").await;
    assert!(jobs.settle("t1", "good", limit).await.unwrap());
    assert!(jobs.settle("t1", "good", limit).await.unwrap());
    assert_eq!(worker.runs("good"), 1);
    rig.enqueue(&jobs, "bad").await;
    assert!(!jobs.settle("t1", "bad", limit).await.unwrap());
    assert!(!jobs.settle("t1", "bad", limit).await.unwrap());
    assert_eq!(worker.runs("bad"), 1, "its next attempt is not due yet");
    // While the loop has it, the caller waits for the loop.
    let runner = tokio::spawn({
        let jobs = jobs.clone();
        async move { jobs.run().await }
    });
    for n in 0..50 {
        let id = n.to_string();
        rig.enqueue(&jobs, &id).await;
        assert!(jobs.settle("t1", &id, limit).await.unwrap());
        assert_eq!(worker.runs(&id), 1);
    }
    runner.abort();
}

#[tokio::test]
async fn a_tenant_that_is_gone_leaves_no_job() {
    let rig = Rig::new();
    let worker = Worker::open();
    let jobs = rig.process(worker.clone());
    rig.enqueue(&jobs, "a").await;
    let other = jobs.enqueue("test", "t2", &json!({}));
    rig.db.apply(vec![other]).await.unwrap();
    rig.db.apply(vec![jobs.forget_tenant("t1")]).await.unwrap();
    assert_eq!(jobs.run_due().await.unwrap(), 1);
    assert_eq!(worker.runs("a"), 0);
}
