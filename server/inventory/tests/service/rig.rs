//! A whole service on a real database, with routers called in-process.

use std::sync::{Arc, LazyLock};

use ambidex_access::{
    Access, Addon, Claims, Denied, DeviceClaims, DeviceIdentity, Grants, Keys, TenantId,
    TokenCheck, UserClaims, UserIdentity,
};
use ambidex_db::Db;
use ambidex_inventory::{FleetDevice, Inventory};
use ambidex_jobs::Jobs;
use ambidex_kit::{BoxFuture, Clock};
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

pub const START_MS: i64 = 1_700_000_000_000;
pub const ATTRIBUTES: &str = "/api/devices/v1/inventory/device/attributes";
pub const DEVICES: &str = "/api/management/v1/inventory/devices";
pub const GROUPS: &str = "/api/management/v1/inventory/groups";
pub const FILTERS: &str = "/api/management/v2/inventory/filters";
pub const INTERNAL: &str = "/api/internal/v1/inventory";

/// Making a key takes a second; all tests of a process share one.
static KEYS: LazyLock<Arc<Keys>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    Arc::new(Keys::open(dir.path()).unwrap())
});

/// Every token with a good signature counts: tokens are not this service's business.
struct Check;

impl TokenCheck for Check {
    fn device<'a>(
        &'a self,
        _: &'a DeviceIdentity,
        _: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async { Ok(()) })
    }

    /// A user named `GROUP,GROUP/DEVICE,DEVICE` sees no more than these.
    fn user<'a>(
        &'a self,
        user: &'a UserIdentity,
        _: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        let split = |list: &str| -> Vec<String> { list.split(',').map(str::to_owned).collect() };
        let grants = match user.user_id.split_once('/') {
            None => Grants::everything(),
            Some((groups, devices)) => Grants {
                inventory_groups: Some(split(groups)),
                inventory_devices: split(devices),
                ..Grants::everything()
            },
        };
        Box::pin(async { Ok(grants) })
    }
}

pub struct Rig {
    pub inventory: Inventory,
    pub clock: Clock,
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

    pub fn total(&self) -> u64 {
        self.headers["x-total-count"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Ids of a list of devices.
    pub fn ids(&self) -> Vec<String> {
        self.json()
            .as_array()
            .unwrap()
            .iter()
            .map(|device| device["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Values of a device's attributes as `scope/name` -> value.
pub fn attributes(device: &Value) -> serde_json::Map<String, Value> {
    let list = device["attributes"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|attribute| {
            let key = format!(
                "{}/{}",
                attribute["scope"].as_str().unwrap(),
                attribute["name"].as_str().unwrap()
            );
            (key, attribute["value"].clone())
        })
        .collect()
}

/// A list of attributes as devices send it.
pub fn list(values: Value) -> Value {
    let object = values.as_object().unwrap();
    object
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

/// The id of the device with this number.
pub fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

impl Rig {
    pub fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        let clock = Clock::manual(START_MS);
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let inventory = Inventory::new(db.clone(), jobs.clone(), clock.clone()).unwrap();
        let access = Access::new(KEYS.clone(), clock.clone(), Arc::new(Check));
        let public = ambidex_kit::front(inventory.routes()).layer(axum::Extension(access));
        let internal = ambidex_kit::front(inventory.internal_routes());
        Rig {
            inventory,
            clock,
            db,
            jobs,
            public,
            internal,
            _dir: dir,
        }
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
        self.token_of(tenant, &Uuid::from_u128(2).to_string())
    }

    pub fn token_of(&self, tenant: &str, user: &str) -> String {
        KEYS.sign(&Claims::user(UserClaims {
            jti: Uuid::from_u128(1),
            sub: user.to_owned(),
            tenant: (!tenant.is_empty()).then(|| tenant.to_owned()),
            plan: "enterprise".into(),
            trial: None,
            addons: Addon::all_enabled(),
            issued_s: START_MS / 1000,
            expires_s: None,
        }))
        .unwrap()
    }

    pub fn device_token(&self, device: &str) -> String {
        KEYS.sign(&Claims::device(DeviceClaims {
            jti: Uuid::from_u128(3),
            sub: device.parse().unwrap(),
            tenant: None,
            plan: "enterprise".into(),
            trial: None,
            addons: Addon::all_enabled(),
            issuer: "Mender".into(),
            issued_s: START_MS / 1000,
            expires_s: START_MS / 1000 + 86_400,
        }))
        .unwrap()
    }

    pub async fn with_token(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        self.send(&self.public, request.body(body.into()).unwrap())
            .await
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
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.with_token(&self.user_token(tenant), method, path, body)
            .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.user(Method::GET, path, None).await
    }

    /// A call of a device.
    pub async fn device(&self, device: &str, method: Method, body: Value) -> Answer {
        self.with_token(
            &self.device_token(device),
            method,
            ATTRIBUTES,
            body.to_string(),
        )
        .await
    }

    pub async fn internal(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        self.send(&self.internal, request).await
    }

    /// A device as operators see it, its attributes by key.
    pub async fn shown(&self, device: &str) -> serde_json::Map<String, Value> {
        attributes(
            &self
                .get(&format!("{DEVICES}/{device}"))
                .await
                .ok(200)
                .json(),
        )
    }

    /// Devices 1, 2, … with these inventory attributes, accepted, created one millisecond apart.
    pub async fn fleet(&self, devices: &[Value]) {
        for (number, values) in (1..).zip(devices) {
            self.clock.advance(1);
            self.accept(
                &id(number),
                json!({ "mac": format!("m{number}") }),
                "accepted",
                1,
            )
            .await;
            self.device(&id(number), Method::PATCH, list(values.clone()))
                .await
                .ok(200);
        }
    }

    /// What device authentication tells of one device.
    pub async fn accept(&self, device: &str, identity: Value, status: &str, revision: i64) {
        let device = FleetDevice {
            id: device.to_owned(),
            identity: identity.as_object().unwrap().clone(),
            status: status.to_owned(),
            revision,
        };
        self.inventory
            .put_fleet_devices(&TenantId::default(), &[device])
            .await
            .unwrap();
    }

    pub async fn search(&self, body: Value) -> Answer {
        self.user(Method::POST, &format!("{FILTERS}/search"), Some(body))
            .await
    }

    /// Numbers of the devices that meet one condition.
    pub async fn matching(
        &self,
        scope: &str,
        attribute: &str,
        operator: &str,
        value: Value,
    ) -> Vec<u128> {
        let filter =
            json!({"scope": scope, "attribute": attribute, "type": operator, "value": value});
        let answer = self
            .search(json!({"filters": [filter], "per_page": 500}))
            .await
            .ok(200);
        let numbers: Vec<u128> = answer
            .ids()
            .iter()
            .map(|id| id.parse::<Uuid>().unwrap().as_u128())
            .collect();
        assert_eq!(answer.total(), numbers.len() as u64);
        numbers
    }
}
