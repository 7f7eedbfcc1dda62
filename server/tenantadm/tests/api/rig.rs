//! The world of a test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ambidex_access::{
    Access, Claims, Denied, DeviceIdentity, Grants, Keys, TokenCheck, UserClaims, UserIdentity,
};
use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::{BoxFuture, Clock, front};
use ambidex_mail::Mailer;
use ambidex_tenantadm::ports::{Accounts, PortError, PreparedUser, UserRefusal};
use ambidex_tenantadm::{Settings, Tenantadm};
use axum::body::Body;
use axum::{Extension, Router};
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// 2021-02-01T10:00:00Z
pub const NOW: i64 = 1_612_173_600_000;
pub const DAY_MS: i64 = 86_400_000;

/// The neighbours: remembers what it was told and has users of its own.
#[derive(Default)]
pub struct Neighbour {
    pub told: Mutex<Vec<String>>,
    pub users: Mutex<BTreeMap<String, String>>,
    /// Fails every call while set.
    pub down: Mutex<bool>,
}

impl Neighbour {
    fn tell(&self, text: String) -> Result<(), PortError> {
        if *self.down.lock().unwrap() {
            return Err(PortError("down".to_owned()));
        }
        self.told.lock().unwrap().push(text);
        Ok(())
    }
}

impl Accounts for Neighbour {
    fn prepare_user<'a>(
        &'a self,
        email: &'a str,
        password: Option<&'a str>,
    ) -> BoxFuture<'a, Result<PreparedUser, UserRefusal>> {
        Box::pin(async move {
            if !email.contains('@') {
                return Err(UserRefusal::Invalid("email: must be valid".to_owned()));
            }
            if password.is_some_and(|password| password.len() < 8) {
                return Err(UserRefusal::Invalid("password: too short".to_owned()));
            }
            let email = email.to_ascii_lowercase();
            if self.users.lock().unwrap().contains_key(&email) {
                return Err(UserRefusal::Taken);
            }
            Ok(PreparedUser {
                id: ambidex_kit::new_id().to_string(),
                password_hash: password.map(|_| "hash".to_owned()),
                email,
                login: None,
            })
        })
    }

    fn create_user<'a>(
        &'a self,
        tenant: &'a str,
        user: &'a PreparedUser,
    ) -> BoxFuture<'a, Result<(), UserRefusal>> {
        Box::pin(async move {
            self.tell(format!("user {tenant} {}", user.email))?;
            let mut users = self.users.lock().unwrap();
            let owner = users
                .entry(user.email.clone())
                .or_insert_with(|| tenant.to_owned());
            if owner != tenant {
                return Err(UserRefusal::Taken);
            }
            Ok(())
        })
    }

    fn remove_users<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move {
            self.tell(format!("remove {tenant}"))?;
            self.users.lock().unwrap().retain(|_, of| of != tenant);
            Ok(())
        })
    }

    fn revoke_tokens<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move { self.tell(format!("revoke {tenant}")) })
    }

    fn limit_devices<'a>(
        &'a self,
        tenant: &'a str,
        devices: u64,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(async move { self.tell(format!("limit {tenant} {devices}")) })
    }
}

struct AllCount;

impl TokenCheck for AllCount {
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

pub struct World {
    dir: tempfile::TempDir,
    db: Db,
    pub tenantadm: Tenantadm,
    pub neighbour: Arc<Neighbour>,
    pub jobs: Jobs,
    pub mailer: Mailer,
    internal: Router,
    public: Router,
    pub clock: Clock,
    keys: Arc<Keys>,
}

/// A server of several tenants where anybody may sign up.
pub fn open() -> Settings {
    Settings {
        multi_tenant: true,
        self_sign_up: true,
        ..Settings::default()
    }
}

impl World {
    pub fn new() -> World {
        World::with(Settings {
            multi_tenant: true,
            ..Settings::default()
        })
    }

    pub fn with(settings: Settings) -> World {
        let dir = tempfile::tempdir().unwrap();
        let neighbour = Arc::new(Neighbour::default());
        let db = ambidex_testdb::open(dir.path());
        World::start(dir, db, neighbour, Clock::manual(NOW), settings)
    }

    /// The same data under a new process.
    pub fn restart(self, settings: Settings) -> World {
        World::start(self.dir, self.db, self.neighbour, self.clock, settings)
    }

    fn start(
        dir: tempfile::TempDir,
        db: Db,
        neighbour: Arc<Neighbour>,
        clock: Clock,
        settings: Settings,
    ) -> World {
        let keys = Arc::new(Keys::open(dir.path()).unwrap());
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let mailer = Mailer::memory();
        let tenantadm = Tenantadm::new(
            db.clone(),
            clock.clone(),
            Arc::clone(&keys),
            Arc::clone(&neighbour) as Arc<dyn Accounts>,
            jobs.clone(),
            mailer.clone(),
            settings,
        )
        .unwrap();
        let access = Access::new(Arc::clone(&keys), clock.clone(), Arc::new(AllCount));
        World {
            internal: front(tenantadm.internal_routes()),
            public: front(tenantadm.routes().layer(Extension(access))),
            dir,
            db,
            tenantadm,
            neighbour,
            jobs,
            mailer,
            clock,
            keys,
        }
    }

    /// A call of the internal API.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: impl ToString,
    ) -> (u16, HeaderMap, Value) {
        let path = format!("/api/internal/v1/tenantadm{path}");
        let request = Request::builder().method(method);
        send(&self.internal, request, &path, body.to_string()).await
    }

    /// A call of the management API, as `v2/tenantadm/tenants`; without a token when it is empty.
    pub async fn manage(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: impl ToString,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let path = format!("/api/management/{path}");
        let (status, _, json) = send(&self.public, request, &path, body.to_string()).await;
        (status, json)
    }

    /// A token of a user of this tenant.
    pub fn token(&self, tenant: &str) -> String {
        let claims = Claims::user(UserClaims {
            jti: ambidex_kit::new_id(),
            sub: "u1".to_owned(),
            tenant: (!tenant.is_empty()).then(|| tenant.to_owned()),
            plan: "os".to_owned(),
            trial: None,
            addons: Vec::new(),
            issued_s: self.clock.now_ms() / 1000,
            expires_s: None,
        });
        self.keys.sign(&claims).unwrap()
    }

    pub async fn verify(&self, token: &str) -> (u16, Value) {
        let request = Request::builder()
            .method("POST")
            .header("authorization", format!("Bearer {token}"));
        let path = "/api/internal/v1/tenantadm/tenants/verify";
        let (status, _, json) = send(&self.internal, request, path, String::new()).await;
        (status, json)
    }

    /// A tenant as the internal API shows it.
    pub async fn show(&self, id: &str) -> Value {
        let (status, _, json) = self.call("GET", &format!("/tenants/{id}"), "").await;
        assert_eq!(status, 200, "{json}");
        json
    }

    pub async fn number_of_tenants(&self) -> usize {
        self.tenantadm.all().await.unwrap().len()
    }

    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.neighbour.told.lock().unwrap())
    }

    pub fn down(&self, down: bool) {
        *self.neighbour.down.lock().unwrap() = down;
    }
}

async fn send(
    router: &Router,
    request: http::request::Builder,
    path: &str,
    body: String,
) -> (u16, HeaderMap, Value) {
    let request = request.uri(path).body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (parts.status.as_u16(), parts.headers, json)
}
