use std::sync::{Arc, LazyLock, Mutex};

use ambidex_access::{
    Access, Addon, Claims, Denied, DeviceClaims, DeviceIdentity, Grants, Keys, TenantId,
    TokenCheck, UserClaims, UserIdentity,
};
use ambidex_db::{Db, Statement};
use ambidex_deviceconfig::Deviceconfig;
use ambidex_deviceconfig::ports::{Inventory, PortError, Ports, Workflows};
use ambidex_jobs::Jobs;
use ambidex_kit::{BoxFuture, Clock, front, new_id};
use axum::body::Body;
use axum::{Extension, Router};
use http::request::Parts;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tower::ServiceExt as _;

pub const START_MS: i64 = 1_700_000_000_000;
pub const DEVICE: &str = "/api/devices/v1/deviceconfig/configuration";
pub const INTERNAL: &str = "/api/internal/v1/deviceconfig";

pub fn of(id: &str) -> String {
    format!("/api/management/v1/deviceconfig/configurations/device/{id}")
}

/// Making a key takes a second; all tests of a process share one.
static KEYS: LazyLock<Arc<Keys>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    Arc::new(Keys::open(dir.path()).unwrap())
});

/// A workflow that was started.
#[derive(Debug, Clone)]
pub struct Started {
    pub tenant: String,
    pub workflow: String,
    pub input: Map<String, Value>,
}

/// The neighbours: device `member` is in group `blue`.
pub struct Neighbours {
    jobs: Jobs,
    pub started: Mutex<Vec<Started>>,
    pub settled: Mutex<Vec<String>>,
}

impl Inventory for Neighbours {
    fn group_of<'a>(
        &'a self,
        _: &'a TenantId,
        device_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move { Ok((device_id == "member").then(|| "blue".to_owned())) })
    }
}

impl Workflows for Neighbours {
    fn start(
        &self,
        tenant: &TenantId,
        workflow: &'static str,
        input: Map<String, Value>,
    ) -> (Statement, String) {
        let id = new_id().to_string();
        let statement = self.jobs.enqueue_with_id(
            "workflow",
            tenant.as_str(),
            &id,
            &Value::Object(input.clone()),
        );
        self.started.lock().unwrap().push(Started {
            tenant: tenant.to_string(),
            workflow: workflow.to_owned(),
            input,
        });
        (statement, id)
    }

    fn settle<'a>(&'a self, _: &'a TenantId, job_id: &'a str) -> BoxFuture<'a, ()> {
        self.settled.lock().unwrap().push(job_id.to_owned());
        Box::pin(async {})
    }
}

struct Check(Arc<Mutex<Grants>>);

impl TokenCheck for Check {
    fn device<'a>(
        &'a self,
        _: &'a DeviceIdentity,
        _: &'a Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async { Ok(()) })
    }
    fn user<'a>(
        &'a self,
        _: &'a UserIdentity,
        _: &'a Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        let grants = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(grants) })
    }
}

pub struct Rig {
    pub db: Db,
    pub clock: Clock,
    pub neighbours: Arc<Neighbours>,
    pub grants: Arc<Mutex<Grants>>,
    public: Router,
    internal: Router,
    _dir: tempfile::TempDir,
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
        assert!(body["request_id"].is_string());
        body["error"].as_str().unwrap().to_owned()
    }
}

/// What a token opens.
pub struct Bearer {
    pub tenant: &'static str,
    pub plan: &'static str,
    pub addons: Vec<Addon>,
    pub trial: Option<bool>,
}

impl Default for Bearer {
    fn default() -> Bearer {
        Bearer {
            tenant: "t1",
            plan: "enterprise",
            addons: Addon::all_enabled(),
            trial: None,
        }
    }
}

impl Bearer {
    pub fn user(&self) -> String {
        KEYS.sign(&Claims::user(UserClaims {
            jti: new_id(),
            sub: "u1".to_owned(),
            tenant: Some(self.tenant.to_owned()),
            plan: self.plan.to_owned(),
            trial: self.trial,
            addons: self.addons.clone(),
            issued_s: START_MS / 1000,
            expires_s: None,
        }))
        .unwrap()
    }

    pub fn device(&self, id: &str) -> String {
        KEYS.sign(&Claims::device(DeviceClaims {
            jti: new_id(),
            sub: id.parse().unwrap(),
            tenant: Some(self.tenant.to_owned()),
            plan: self.plan.to_owned(),
            trial: self.trial,
            addons: self.addons.clone(),
            issuer: "Mender".to_owned(),
            issued_s: START_MS / 1000,
            expires_s: START_MS / 1000 + 1_000_000,
        }))
        .unwrap()
    }
}

impl Rig {
    pub fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        let clock = Clock::manual(START_MS);
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let neighbours = Arc::new(Neighbours {
            jobs: jobs.clone(),
            started: Mutex::default(),
            settled: Mutex::default(),
        });
        let ports = Ports {
            inventory: neighbours.clone(),
            workflows: neighbours.clone(),
        };
        let service = Deviceconfig::new(db.clone(), clock.clone(), jobs, ports).unwrap();
        let grants = Arc::new(Mutex::new(Grants::everything()));
        let check = Arc::new(Check(Arc::clone(&grants)));
        let access = Access::new(KEYS.clone(), clock.clone(), check);
        Rig {
            db,
            clock,
            neighbours,
            grants,
            public: front(service.routes()).layer(Extension(access)),
            internal: front(service.internal_routes()),
            _dir: dir,
        }
    }

    async fn send(&self, router: &Router, request: Request<Body>) -> Answer {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub async fn with_token(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
        self.send(&self.public, request.unwrap()).await
    }

    pub async fn user(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let token = Bearer::default().user();
        self.with_token(&token, method, path, body).await
    }

    pub async fn internal(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{INTERNAL}{path}"))
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
        self.send(&self.internal, request.unwrap()).await
    }

    /// The payloads of jobs of a kind.
    pub async fn jobs(&self, kind: &str) -> Vec<Value> {
        let sql = "SELECT payload FROM jobs_jobs WHERE kind = $1 ORDER BY created_ms, id";
        let rows = self.db.query(sql, ambidex_db::params![kind]).await.unwrap();
        let payload = |row: &ambidex_db::Row| serde_json::from_str(row.text(0).unwrap()).unwrap();
        rows.iter().map(payload).collect()
    }
}
