//! A whole service whose requests to "own" hosts are answered by a plan of the test.

use std::sync::{Arc, Mutex};

use ambidex_bus::Bus;
use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::{BoxFuture, Clock, front};
use ambidex_mail::Mailer;
use ambidex_workflows::ports::Services;
use ambidex_workflows::{Settings, Tools, Workflows};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub const START_MS: i64 = 1_700_000_000_000;

/// A request that reached a service of the server.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Call {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

type Plan = Box<dyn Fn(&Call) -> Result<(u16, String), String> + Send + Sync>;

/// The server's services, as the test wants them.
pub struct Neighbours {
    pub calls: Mutex<Vec<Call>>,
    plan: Mutex<Plan>,
}

impl Default for Neighbours {
    fn default() -> Neighbours {
        Neighbours {
            calls: Mutex::default(),
            plan: Mutex::new(Box::new(|_| Ok((200, "{}".to_owned())))),
        }
    }
}

impl Neighbours {
    pub fn answer(
        &self,
        plan: impl Fn(&Call) -> Result<(u16, String), String> + Send + Sync + 'static,
    ) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    pub fn always(&self, status: u16) {
        self.answer(move |_| Ok((status, "{}".to_owned())));
    }

    pub fn paths(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|call| format!("{} {}", call.method, call.path))
            .collect()
    }
}

impl Services for Neighbours {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let call = Call {
                method: parts.method.to_string(),
                path: parts.uri.to_string(),
                headers: parts.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            self.calls.lock().unwrap().push(call.clone());
            let (status, body) = (self.plan.lock().unwrap())(&call)?;
            let response = Response::builder().status(status);
            Ok(response.body(Bytes::from(body)).unwrap())
        })
    }
}

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub db: Db,
    pub clock: Clock,
    pub jobs: Jobs,
    pub workflows: Workflows,
    pub neighbours: Arc<Neighbours>,
    pub mailer: Mailer,
    router: Router,
}

pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    #[track_caller]
    pub fn ok(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn error(self, status: u16) -> String {
        let body = self.ok(status).json();
        body["error"].as_str().unwrap().to_owned()
    }
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        Rig::open(dir, Arc::default(), Clock::manual(START_MS), settings)
    }

    fn open(
        dir: tempfile::TempDir,
        neighbours: Arc<Neighbours>,
        clock: Clock,
        settings: Settings,
    ) -> Rig {
        let db = ambidex_testdb::open(dir.path());
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let mailer = Mailer::memory();
        let tools = Tools {
            services: neighbours.clone(),
            mailer: mailer.clone(),
            bus: Bus::local(),
        };
        let workflows =
            Workflows::new(db.clone(), clock.clone(), jobs.clone(), tools, settings).unwrap();
        let router = front(workflows.internal_routes());
        Rig {
            dir,
            db,
            clock,
            jobs,
            workflows,
            neighbours,
            mailer,
            router,
        }
    }

    /// The process ends; another one starts on the same database.
    pub async fn restart(self) -> Rig {
        self.db.close().await.unwrap();
        Rig::open(self.dir, self.neighbours, self.clock, Settings::default())
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).body(Body::from(body.to_string()));
        self.send(request.unwrap()).await
    }

    /// Registers a workflow of these tasks.
    pub async fn register(&self, name: &str, tasks: Value, inputs: &[&str]) {
        let body = json!({
            "name": name, "version": 1, "schemaVersion": 1, "tasks": tasks, "inputParameters": inputs,
        });
        self.post("/api/v1/metadata/workflows", &body).await.ok(201);
    }

    pub async fn start(&self, name: &str, input: &Value) -> String {
        let answer = self.post(&format!("/api/v1/workflow/{name}"), input).await;
        let started = answer.ok(201).json();
        assert_eq!(started["name"], name);
        let id = started["id"].as_str().unwrap().to_owned();
        assert!(id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        id
    }

    /// Runs what is due now and what becomes due by waiting, until nothing is left.
    pub async fn run_all(&self) {
        for _ in 0..600 {
            if self.jobs.run_due().await.unwrap() == 0 && self.waiting().await == 0 {
                return;
            }
            self.clock.advance(5_000);
        }
        panic!("jobs without an end");
    }

    async fn waiting(&self) -> u64 {
        let counts = self.jobs.counts().await.unwrap();
        let ready = counts.iter().filter(|count| count.state == "ready");
        ready.map(|count| count.jobs).sum()
    }

    /// Starts a job, lets it end and returns its document.
    pub async fn ran(&self, name: &str, input: &Value) -> Value {
        let id = self.start(name, input).await;
        self.run_all().await;
        let answer = self.get(&format!("/api/v1/workflow/{name}/{id}")).await;
        answer.ok(200).json()
    }
}
