//! User administration over its routers, with the real database, keys and extractors.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod account;
mod mail;
mod rbac;
mod roles;
mod session;
mod settings;
mod user;

use std::sync::{Arc, Mutex};

use ambidex_access::{
    Access, Addon, Claims, Denied, DeviceClaims, DeviceIdentity, Grants, Keys, Seal, TenantId,
    TokenCheck, UserIdentity,
};
use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::{BoxFuture, Clock, front};
use ambidex_mail::Mailer;
use ambidex_useradm::ports::{Devices, PortError, TenantFacts, Tenants};
use ambidex_useradm::{NewUser, Parts as Stands, RequestDenied, Settings, Useradm};
use axum::body::Body;
use axum::{Extension, Router};
use base64::Engine as _;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

const NOW: i64 = 1_612_173_600_000;
const BASE: &str = "/api/management/v1/useradm";
const INTERNAL: &str = "/api/internal/v1/useradm";
const PASSWORD: &str = "correct horse";

/// Three tenants besides the default one; keeps what it is told.
#[derive(Default)]
struct Neighbour {
    suspended: Mutex<Vec<String>>,
    told: Mutex<Vec<String>>,
}

impl Tenants for Neighbour {
    fn facts<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Option<TenantFacts>, PortError>> {
        let known = ["", "t1", "t2", "t3"].contains(&tenant.as_str());
        let barred = self.suspended.lock().unwrap().contains(&tenant.to_string());
        Box::pin(async move {
            Ok(known.then(|| TenantFacts {
                plan: match tenant.as_str() {
                    "t2" => "os",
                    "t3" => "professional",
                    _ => "enterprise",
                }
                .to_owned(),
                trial: None,
                addons: Addon::all_enabled(),
                barred: barred.then_some("tenant account suspended"),
            }))
        })
    }
    fn user_saved<'a>(
        &'a self,
        tenant: &'a TenantId,
        _: &'a str,
        email: &'a str,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        self.told.lock().unwrap().push(format!("{tenant}:{email}"));
        Box::pin(async { Ok(()) })
    }
    fn user_deleted<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        self.told.lock().unwrap().push(format!("{tenant}:-{user}"));
        Box::pin(async { Ok(()) })
    }
}

/// Device `d-NAME` is in the group `NAME`.
impl Devices for Neighbour {
    fn group_of<'a>(
        &'a self,
        _: &'a TenantId,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        let group = device.strip_prefix("d-").map(str::to_owned);
        Box::pin(async { Ok(group) })
    }
}

struct Check(Useradm);

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
        user: &'a UserIdentity,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        Box::pin(async move {
            let uri = request.uri.path_and_query().unwrap().as_str();
            match self
                .0
                .check_request(user, request.method.as_str(), uri)
                .await
            {
                Ok(grants) => Ok(grants),
                Err(RequestDenied::Revoked) => Err(Denied::Unauthorized("unauthorized".to_owned())),
                Err(denied @ RequestDenied::Forbidden) => {
                    Err(Denied::Forbidden(denied.to_string()))
                }
                Err(e) => Err(Denied::Internal(Box::new(e))),
            }
        })
    }
}

struct World {
    _dir: tempfile::TempDir,
    useradm: Useradm,
    neighbour: Arc<Neighbour>,
    keys: Arc<Keys>,
    clock: Clock,
    db: Db,
    jobs: Jobs,
    mailer: Mailer,
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
        serde_json::from_str(&self.text).unwrap()
    }
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl World {
    fn new() -> World {
        World::with(Settings::default())
    }

    fn with(settings: Settings) -> World {
        World::mailing(settings, Mailer::none())
    }

    /// A server that sends mails, with a runner of jobs.
    fn with_mail() -> World {
        let settings = Settings {
            public_url: Some("https://ota.example".to_owned()),
            ..Settings::default()
        };
        let world = World::mailing(settings, Mailer::memory());
        let jobs = world.jobs.clone();
        tokio::spawn(async move { jobs.run().await });
        world
    }

    fn mailing(settings: Settings, mailer: Mailer) -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        let keys = Arc::new(Keys::open(dir.path()).unwrap());
        let clock = Clock::manual(NOW);
        let neighbour = Arc::new(Neighbour::default());
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let useradm = Useradm::new(
            Stands {
                db: db.clone(),
                clock: clock.clone(),
                keys: Arc::clone(&keys),
                seal: Seal::new(&[7; 32]).unwrap(),
                jobs: jobs.clone(),
                mailer: mailer.clone(),
                tenants: Arc::clone(&neighbour) as Arc<dyn Tenants>,
                devices: Arc::clone(&neighbour) as Arc<dyn Devices>,
            },
            settings,
        )
        .unwrap();
        let access = Access::new(
            Arc::clone(&keys),
            clock.clone(),
            Arc::new(Check(useradm.clone())),
        );
        World {
            _dir: dir,
            public: front(useradm.routes().layer(Extension(access))),
            internal: front(useradm.internal_routes()),
            useradm,
            neighbour,
            keys,
            clock,
            db,
            jobs,
            mailer,
        }
    }

    async fn user(&self, tenant: &str, email: &str) -> String {
        let new = NewUser::with_password(email, PASSWORD);
        self.useradm
            .create_user(&TenantId::new(tenant), new)
            .await
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

    async fn call(&self, method: &str, path: &str, token: &str, body: impl ToString) -> Answer {
        self.call_with(method, path, token, &[], body).await
    }

    /// Paths that do not begin with `/api` are of version 1 of the management API.
    async fn call_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: impl ToString,
    ) -> Answer {
        let uri = match path.starts_with("/api") {
            true => path.to_owned(),
            false => format!("{BASE}{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        self.send(&self.public, request).await
    }

    async fn inner(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl ToString,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{INTERNAL}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(
            &self.internal,
            request.body(Body::from(body.to_string())).unwrap(),
        )
        .await
    }

    /// The events of the audit log that were handed over so far.
    async fn events(&self) -> Vec<Value> {
        let sql = "SELECT payload FROM jobs_jobs WHERE kind = 'audit' ORDER BY created_ms, id";
        let rows = self.db.query(sql, Vec::new()).await.unwrap();
        rows.iter()
            .map(|row| serde_json::from_str(row.text(0).unwrap()).unwrap())
            .collect()
    }

    /// A user with these roles, logged in.
    async fn with_roles(&self, tenant: &str, email: &str, roles: &[&str]) -> String {
        let new = NewUser {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..NewUser::with_password(email, PASSWORD)
        };
        let tenant = TenantId::new(tenant);
        self.useradm.create_user(&tenant, new).await.unwrap();
        self.login(email).await
    }

    /// What the gateway is told about a request.
    async fn verify(&self, token: &str, method: &str, uri: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-original-uri", uri),
            ("x-original-method", method),
        ];
        self.inner("POST", "/auth/verify", &headers, "").await
    }

    async fn try_login(&self, email: &str, password: &str, body: &str) -> Answer {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{email}:{password}"));
        let request = Request::post(format!("{BASE}/auth/login"))
            .header("authorization", format!("Basic {basic}"))
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.send(&self.public, request).await
    }

    async fn login(&self, email: &str) -> String {
        let answer = self.try_login(email, PASSWORD, "").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    }
}
