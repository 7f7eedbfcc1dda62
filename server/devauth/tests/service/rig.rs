//! A whole service on a real database, with routers called in-process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use ambidex_access::{
    Access, Addon, Claims, Denied, DeviceIdentity, Grants, Keys, TenantId, TokenCheck, UserClaims,
    UserIdentity,
};
use ambidex_db::{Db, Statement};
use ambidex_devauth::ports::{
    Connections, DeviceState, Inventory, PortError, Ports, Tenants, Workflows,
};
use ambidex_devauth::{Devauth, Settings, TokenDenied};
use ambidex_jobs::{Handler, Job, JobError, Jobs};
use ambidex_kit::{BoxFuture, Clock};
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

pub const START_MS: i64 = 1_700_000_000_000;
pub const AUTH_REQUESTS: &str = "/api/devices/v1/authentication/auth_requests";
pub const DEVICES: &str = "/api/management/v2/devauth/devices";
pub const INTERNAL: &str = "/api/internal/v1/devauth";

/// Making a key takes a second; all tests of a process share one.
static KEYS: LazyLock<Arc<Keys>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    Arc::new(Keys::open(dir.path()).unwrap())
});

/// What the neighbours were told.
#[derive(Default)]
pub struct Neighbours {
    pub known: Mutex<BTreeMap<String, DeviceState>>,
    pub removed: Mutex<Vec<String>>,
    /// What `provision_device` was started with.
    pub provisioned: Mutex<Vec<Value>>,
    pub seen: Mutex<Vec<(String, i64)>>,
    /// Devices whose connections were told of a revocation.
    pub revoked: Mutex<Vec<String>>,
    pub down: AtomicBool,
}

impl Neighbours {
    fn check(&self) -> Result<(), PortError> {
        if self.down.load(Ordering::SeqCst) {
            Err(PortError("down".into()))
        } else {
            Ok(())
        }
    }

    pub fn status(&self, id: &str) -> Option<&'static str> {
        self.known.lock().unwrap().get(id).map(|state| state.status)
    }
}

impl Inventory for Neighbours {
    fn put_devices(
        &self,
        _: TenantId,
        devices: Vec<DeviceState>,
    ) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(async move {
            self.check()?;
            let mut known = self.known.lock().unwrap();
            for device in devices {
                match known.get(&device.id) {
                    Some(old) if old.revision > device.revision => {}
                    _ => {
                        known.insert(device.id.clone(), device);
                    }
                }
            }
            Ok(())
        })
    }

    fn checked_in(
        &self,
        _: TenantId,
        devices: Vec<(String, i64)>,
    ) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(async move {
            self.check()?;
            self.seen.lock().unwrap().extend(devices);
            Ok(())
        })
    }
}

impl Connections for Neighbours {
    fn tokens_revoked<'a>(&'a self, _: &'a TenantId, device: &'a str) -> BoxFuture<'a, ()> {
        self.revoked.lock().unwrap().push(device.to_owned());
        Box::pin(async {})
    }
}

/// Workflows as durable jobs whose one step is a neighbour.
pub struct Engine {
    jobs: Jobs,
}

impl Workflows for Engine {
    fn start(
        &self,
        tenant: &TenantId,
        workflow: &'static str,
        input: Map<String, Value>,
    ) -> (Statement, String) {
        let id = ambidex_kit::new_id().to_string();
        let payload = Value::Object(input);
        let start = self
            .jobs
            .enqueue_with_id(workflow, tenant.as_str(), &id, &payload);
        (start, id)
    }

    fn wake(&self) {
        self.jobs.wake();
    }

    fn settle<'a>(&'a self, tenant: &'a TenantId, job_id: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let limit = std::time::Duration::from_secs(20);
            self.jobs
                .settle(tenant.as_str(), job_id, limit)
                .await
                .unwrap();
        })
    }
}

impl Handler for Neighbours {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            self.check().map_err(|error| JobError::retry(job, error))?;
            let id = job.payload["device_id"].as_str().unwrap().to_owned();
            assert_eq!(job.payload["tenant_id"], job.tenant.as_str());
            if job.kind == "provision_device" {
                self.provisioned.lock().unwrap().push(job.payload.clone());
            } else {
                self.known.lock().unwrap().remove(&id);
                self.removed.lock().unwrap().push(id);
            }
            Ok(())
        })
    }
}

struct Check(Devauth);

impl TokenCheck for Check {
    fn device<'a>(
        &'a self,
        device: &'a DeviceIdentity,
        _: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async move {
            self.0
                .check_device_token(device)
                .await
                .map_err(|error| match error {
                    TokenDenied::Revoked => Denied::Unauthorized("unauthorized".into()),
                    TokenDenied::Failed(error) => Denied::Internal(error.into()),
                })
        })
    }

    fn user<'a>(
        &'a self,
        _: &'a UserIdentity,
        _: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        Box::pin(async { Ok(Grants::everything()) })
    }
}

pub struct Rig {
    pub devauth: Devauth,
    pub neighbours: Arc<Neighbours>,
    pub clock: Clock,
    pub keys: Arc<Keys>,
    pub db: Db,
    pub jobs: Jobs,
    public: Router,
    internal: Router,
    _dir: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// Asserts the status and returns the error text.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        let body = self.json();
        assert!(body["request_id"].is_string(), "{body}");
        body["error"].as_str().expect("error text").to_owned()
    }

    #[track_caller]
    pub fn ok(self, status: u16) -> Answer {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    pub fn links(&self) -> String {
        let links: Vec<&str> = self
            .headers
            .get_all("link")
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        links.join(" ")
    }
}

/// A device with its identity and key.
pub struct Device {
    pub id_data: String,
    pub key: ed25519_dalek::SigningKey,
}

impl Device {
    pub fn new(mac: &str) -> Device {
        Device {
            id_data: json!({ "mac": mac }).to_string(),
            key: ed25519_dalek::SigningKey::generate(&mut rand::thread_rng()),
        }
    }

    /// The same device with another key.
    pub fn rekeyed(&self) -> Device {
        Device {
            key: ed25519_dalek::SigningKey::generate(&mut rand::thread_rng()),
            id_data: self.id_data.clone(),
        }
    }

    pub fn pem(&self) -> String {
        self.key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap()
    }

    pub fn body(&self) -> Value {
        json!({ "id_data": self.id_data, "pubkey": self.pem() })
    }

    pub fn identity(&self) -> Value {
        serde_json::from_str(&self.id_data).unwrap()
    }
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(None, Settings::default())
    }

    pub fn with(tenants: Option<Arc<dyn Tenants>>, settings: Settings) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        let keys = KEYS.clone();
        let clock = Clock::manual(START_MS);
        let neighbours = Arc::new(Neighbours::default());
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        for workflow in ["provision_device", "decommission_device"] {
            jobs.handle(workflow, neighbours.clone());
        }
        let ports = Ports {
            inventory: neighbours.clone(),
            workflows: Arc::new(Engine { jobs: jobs.clone() }),
            connections: neighbours.clone(),
            tenants,
        };
        let devauth = Devauth::new(
            db.clone(),
            jobs.clone(),
            clock.clone(),
            keys.clone(),
            ports,
            settings,
        )
        .unwrap();
        let access = Access::new(
            keys.clone(),
            clock.clone(),
            Arc::new(Check(devauth.clone())),
        );
        let public = ambidex_kit::front(devauth.routes()).layer(axum::Extension(access));
        let internal = ambidex_kit::front(devauth.internal_routes());
        Rig {
            devauth,
            neighbours,
            clock,
            keys,
            db,
            jobs,
            public,
            internal,
            _dir: dir,
        }
    }

    /// The engine of this rig, for another process on the same database.
    pub fn engine(&self) -> Arc<Engine> {
        Arc::new(Engine {
            jobs: self.jobs.clone(),
        })
    }

    pub async fn send(&self, router: &Router, request: Request<Body>) -> Answer {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub fn user_token(&self, tenant: &str) -> String {
        self.keys
            .sign(&Claims::user(UserClaims {
                jti: ambidex_kit::new_id(),
                sub: ambidex_kit::new_id().to_string(),
                tenant: (!tenant.is_empty()).then(|| tenant.to_owned()),
                plan: "enterprise".into(),
                trial: None,
                addons: Addon::all_enabled(),
                issued_s: START_MS / 1000,
                expires_s: None,
            }))
            .unwrap()
    }

    pub async fn public(&self, request: Request<Body>) -> Answer {
        self.send(&self.public, request).await
    }

    /// A call of an operator.
    pub async fn user(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.user_of("", method, path, body).await
    }

    pub async fn user_of(
        &self,
        tenant: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let token = self.user_token(tenant);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        let request = request
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        self.send(&self.public, request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.user(Method::GET, path, None).await
    }

    pub async fn internal(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        self.send(&self.internal, request).await
    }

    /// Asks whether a token counts.
    pub async fn verify(&self, token: &str) -> u16 {
        let request = Request::post(format!("{INTERNAL}/tokens/verify"))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        self.send(&self.internal, request).await.status.as_u16()
    }

    /// An authentication request with any body and signature.
    pub async fn request(&self, body: impl Into<Vec<u8>>, signature: Option<&str>) -> Answer {
        let mut request = Request::post(AUTH_REQUESTS);
        if let Some(signature) = signature {
            request = request.header("X-MEN-Signature", signature);
        }
        self.send(&self.public, request.body(Body::from(body.into())).unwrap())
            .await
    }

    /// A genuine authentication request.
    pub async fn authenticate(&self, device: &Device) -> Answer {
        self.authenticate_with(device, device.body()).await
    }

    pub async fn authenticate_with(&self, device: &Device, body: Value) -> Answer {
        let body = body.to_string();
        let signature = STANDARD.encode(device.key.sign(body.as_bytes()).to_bytes());
        self.request(body, Some(&signature)).await
    }

    /// All devices, as the listing shows them.
    pub async fn devices(&self) -> Vec<Value> {
        self.get(&format!("{DEVICES}?per_page=500"))
            .await
            .ok(200)
            .json()
            .as_array()
            .unwrap()
            .clone()
    }

    pub async fn device(&self, id: &str) -> Value {
        self.get(&format!("{DEVICES}/{id}")).await.ok(200).json()
    }

    pub async fn set_status(&self, device_id: &str, set_id: &str, status: &str) -> Answer {
        let path = format!("{DEVICES}/{device_id}/auth/{set_id}/status");
        self.user(Method::PUT, &path, Some(json!({ "status": status })))
            .await
    }

    /// Lets a new device ask and returns its id and the id of its set.
    pub async fn pending(&self, device: &Device) -> (String, String) {
        self.authenticate(device).await.ok(401);
        self.find(device).await
    }

    pub async fn find(&self, device: &Device) -> (String, String) {
        for shown in self.devices().await {
            for set in shown["auth_sets"].as_array().unwrap() {
                if set["pubkey"] == device.pem().as_str() {
                    return (
                        shown["id"].as_str().unwrap().to_owned(),
                        set["id"].as_str().unwrap().to_owned(),
                    );
                }
            }
        }
        panic!("device {} is not listed", device.id_data);
    }

    /// A device that was let in: its id, the id of its set and a token.
    pub async fn accepted(&self, device: &Device) -> (String, String, String) {
        let (id, set) = self.pending(device).await;
        self.set_status(&id, &set, "accepted").await.ok(204);
        let token = self.authenticate(device).await.ok(200).text;
        (id, set, token)
    }
}
