//! The audit log over its routers, with the real database, keys and extractors.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod export;
mod internal;
mod logs;
mod record;

use std::sync::Arc;

use ambidex_access::{
    Access, Claims, Denied, DeviceIdentity, Grants, Keys, TenantId, TokenCheck, UserIdentity,
};
use ambidex_auditlogs::ports::{Directory, PortError};
use ambidex_auditlogs::{Auditlogs, Settings};
use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::{BoxFuture, Clock, front, rfc3339};
use ambidex_wire::management::auditlogs::{Actor, Event, Object};
use axum::body::Body;
use axum::{Extension, Router};
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// 2021-02-01T10:00:00Z
const NOW_S: i64 = 1_612_173_600;
const LOGS: &str = "/api/management/v1/auditlogs/logs";
const EXPORT: &str = "/api/management/v1/auditlogs/logs/export";
const INTERNAL: &str = "/api/internal/v1/auditlogs";

struct AnyToken;

impl TokenCheck for AnyToken {
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
        Box::pin(async { Ok(Grants::everything()) })
    }
}

/// Knows the user `alice` and the device `d1`.
struct Neighbours;

impl Directory for Neighbours {
    fn user_email<'a>(
        &'a self,
        tenant: &'a str,
        user: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            match user {
                "alice" => Ok(Some(format!("alice@{tenant}.example.com"))),
                "nobody can tell" => Err(PortError("useradm: it is down".to_owned())),
                _ => Ok(None),
            }
        })
    }
    fn device_identity<'a>(
        &'a self,
        _: &'a str,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move { Ok((device == "d1").then(|| r#"{"mac":"1"}"#.to_owned())) })
    }
}

struct World {
    _dir: tempfile::TempDir,
    db: Db,
    jobs: Jobs,
    auditlogs: Auditlogs,
    clock: Clock,
    keys: Arc<Keys>,
    public: Router,
    internal: Router,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
    /// The object ids of a list.
    fn objects(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.text);
        let list = self.json();
        let ids = list.as_array().unwrap().iter();
        ids.map(|e| e["object"]["id"].as_str().unwrap().to_owned())
            .collect()
    }
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        let keys = Arc::new(Keys::open(dir.path()).unwrap());
        let clock = Clock::manual(NOW_S * 1000);
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let auditlogs = Auditlogs::new(
            db.clone(),
            clock.clone(),
            Arc::new(Neighbours),
            Settings::default(),
        )
        .unwrap();
        jobs.handle(ambidex_jobs::AUDIT, Arc::new(auditlogs.clone()));
        let access = Access::new(Arc::clone(&keys), clock.clone(), Arc::new(AnyToken));
        World {
            _dir: dir,
            public: front(auditlogs.routes().layer(Extension(access))),
            internal: front(auditlogs.internal_routes()),
            db,
            jobs,
            auditlogs,
            clock,
            keys,
        }
    }

    /// A token of a user of this tenant.
    fn token(&self, tenant: &str, plan: &str) -> String {
        self.keys
            .sign(&Claims {
                jti: Some(uuid::Uuid::new_v4()),
                sub: uuid::Uuid::new_v4().to_string(),
                user: Some(true),
                tenant: (!tenant.is_empty()).then(|| tenant.to_owned()),
                plan: Some(plan.to_owned()),
                ..Claims::default()
            })
            .unwrap()
    }

    async fn send(&self, router: &Router, request: Request<Body>) -> Answer {
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Asks as a user of the one tenant.
    async fn get(&self, uri: &str) -> Answer {
        self.get_as("", "enterprise", uri).await
    }

    async fn get_as(&self, tenant: &str, plan: &str, uri: &str) -> Answer {
        let token = self.token(tenant, plan);
        let request = Request::get(uri)
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        self.send(&self.public, request).await
    }

    async fn inner(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{INTERNAL}{path}"))
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.send(&self.internal, request).await
    }

    /// Puts an event of a second of its own on record.
    async fn event(&self, seconds: i64, change: impl FnOnce(&mut Event)) {
        let mut event = event(seconds);
        change(&mut event);
        let id = format!("{seconds:08}-{}", uuid::Uuid::new_v4());
        self.auditlogs
            .record(&TenantId::default(), &id, event)
            .await
            .unwrap();
    }
}

/// `alice` created the deployment `o<seconds>` so many seconds after [`NOW_S`].
fn event(seconds: i64) -> Event {
    let object = Object::deployment(format!("o{seconds}"), "production", "app-1");
    let time = rfc3339((NOW_S + seconds) * 1000);
    Event::new(Actor::user("alice"), time, "create", object)
}
