//! A server in a box: the routes of the service over a temporary directory.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, OnceLock};

use ambidex_access::{
    Access, Claims, Denied, DeviceIdentity, Grants, Keys, TenantId, TokenCheck, UserIdentity,
};
use ambidex_artifact::{ArtifactSpec, Payload, PayloadSource, write};
use ambidex_blob::Blobs;
use ambidex_db::Db;
use ambidex_deployments::ports::{Filters, Inventory, PortError, Ports, SavedFilter};
use ambidex_deployments::{Deployments, Settings};
use ambidex_jobs::Jobs;
use ambidex_kit::{BoxFuture, Clock, front};
use ambidex_wire::deployments::Instructions;
use ambidex_wire::management::inventory::{Filter, FilterPredicate};
use axum::body::Body;
use axum::{Extension, Router};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

pub const DEVICES: &str = "/api/devices/v1/deployments/device/deployments";
pub const MANAGEMENT: &str = "/api/management/v1/deployments";
pub const INTERNAL: &str = "/api/internal/v1/deployments";
pub const HOST: &str = "ota.example:8080";
/// 2023-11-14T22:13:20Z
pub const START_MS: i64 = 1_700_000_000_000;

/// The neighbour that knows devices.
#[derive(Default)]
pub struct Fleet {
    pub accepted: Mutex<HashMap<String, Vec<String>>>,
    pub groups: Mutex<HashMap<(String, String), Vec<String>>>,
    /// Saved filters of all tenants by id.
    pub filters: Mutex<HashMap<String, Filter>>,
    /// Attributes of devices: (tenant, device) to (name, value).
    pub attributes: Mutex<HashMap<(String, String), (String, String)>>,
}

impl Fleet {
    /// An accepted device with one attribute of the scope `inventory`.
    pub fn equip(&self, tenant: &str, device: &Device, name: &str, value: &str) {
        let key = (tenant.to_owned(), device.id.clone());
        let attribute = (name.to_owned(), value.to_owned());
        self.attributes.lock().unwrap().insert(key, attribute);
    }

    /// A filter for devices whose attribute has a value; returns its id.
    pub fn save_filter(&self, name: &str, value: &str) -> String {
        let filter = Filter {
            id: Uuid::new_v4().to_string(),
            name: format!("{name} {value}"),
            terms: vec![FilterPredicate {
                scope: "inventory".to_owned(),
                attribute: name.to_owned(),
                operator: "$eq".to_owned(),
                value: json!(value),
            }],
        };
        let id = filter.id.clone();
        self.filters.lock().unwrap().insert(id.clone(), filter);
        id
    }

    pub fn put_in_group(&self, tenant: &str, group: &str, devices: &[Device]) {
        let key = (tenant.to_owned(), group.to_owned());
        let ids = devices.iter().map(|device| device.id.clone()).collect();
        self.groups.lock().unwrap().insert(key, ids);
    }

    fn meets(attribute: &(String, String), terms: &[FilterPredicate]) -> bool {
        terms
            .iter()
            .all(|term| term.attribute == attribute.0 && term.value == json!(attribute.1))
    }
}

impl Filters for Fleet {
    fn saved<'a>(
        &'a self,
        tenant: &'a TenantId,
        filter_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SavedFilter>, PortError>> {
        let filter = self.filters.lock().unwrap().get(filter_id).cloned();
        let attributes = self.attributes.lock().unwrap();
        let found = filter.map(|filter| SavedFilter {
            devices: attributes
                .iter()
                .filter(|((owner, _), attribute)| {
                    owner == tenant.as_str() && Self::meets(attribute, &filter.terms)
                })
                .count() as u64,
            filter,
        });
        Box::pin(async move { Ok(found) })
    }

    fn first_match<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_id: &'a str,
        terms: &'a [Vec<FilterPredicate>],
    ) -> BoxFuture<'a, Result<Option<usize>, PortError>> {
        let key = (tenant.as_str().to_owned(), device_id.to_owned());
        let attribute = self.attributes.lock().unwrap().get(&key).cloned();
        let found = attribute.and_then(|attribute| {
            terms
                .iter()
                .position(|terms| Self::meets(&attribute, terms))
        });
        Box::pin(async move { Ok(found) })
    }
}

impl Inventory for Fleet {
    fn accepted_devices<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        let found = self.accepted.lock().unwrap().get(tenant.as_str()).cloned();
        Box::pin(async move { Ok(found.unwrap_or_default()) })
    }

    fn devices_in_group<'a>(
        &'a self,
        tenant: &'a TenantId,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        let key = (tenant.as_str().to_owned(), group.to_owned());
        let found = self.groups.lock().unwrap().get(&key).cloned();
        Box::pin(async move { Ok(found.unwrap_or_default()) })
    }

    fn groups_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, PortError>> {
        let groups = self.groups.lock().unwrap();
        let group = |id: &String| {
            groups
                .iter()
                .find(|((owner, _), ids)| owner == tenant.as_str() && ids.contains(id))
                .map(|((_, group), _)| group.clone())
        };
        let found = device_ids.iter().map(group).collect();
        Box::pin(async move { Ok(found) })
    }

    fn devices_with<'a>(
        &'a self,
        tenant: &'a TenantId,
        (_, name): (&'a str, &'a str),
        value: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        let attributes = self.attributes.lock().unwrap();
        let found = attributes
            .iter()
            .filter(|((owner, _), attribute)| {
                owner == tenant.as_str() && attribute.0 == name && attribute.1 == value
            })
            .map(|((_, id), _)| id.clone())
            .take(limit)
            .collect();
        Box::pin(async move { Ok(found) })
    }
}

/// Every signed token counts; users have the grants of the world.
#[derive(Default)]
struct Everybody(Arc<Mutex<Grants>>);

impl TokenCheck for Everybody {
    fn device<'a>(
        &'a self,
        _: &'a DeviceIdentity,
        _: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async { Ok(()) })
    }

    fn user<'a>(
        &'a self,
        _: &'a UserIdentity,
        _: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        let grants = self.0.lock().unwrap().clone();
        Box::pin(async { Ok(grants) })
    }
}

/// Making a key takes long: one for all tests.
fn keys() -> Arc<Keys> {
    static KEYS: OnceLock<Arc<Keys>> = OnceLock::new();
    let make = || Arc::new(Keys::open(tempfile::tempdir().unwrap().path()).unwrap());
    Arc::clone(KEYS.get_or_init(make))
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub fleet: Arc<Fleet>,
    /// What users may do: everything, unless a test says otherwise.
    pub grants: Arc<Mutex<Grants>>,
    pub jobs: Jobs,
    pub db: Db,
    pub service: Deployments,
    pub public: Router,
    pub internal: Router,
    /// Token of a user.
    pub user: String,
    tenant: Option<String>,
}

/// An answer with its body.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .to_str()
            .unwrap()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// The last part of `Location`.
    pub fn created(&self) -> String {
        self.header("location")
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    }
}

/// A device as it presents itself.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: String,
    pub token: String,
    pub device_type: String,
    pub artifact_name: String,
}

pub fn sign(claims: Claims) -> String {
    keys().sign(&claims).unwrap()
}

pub fn user_token(tenant: Option<&str>, plan: &str) -> String {
    sign(Claims {
        jti: Some(Uuid::new_v4()),
        sub: Uuid::new_v4().to_string(),
        user: Some(true),
        tenant: tenant.map(str::to_owned),
        plan: Some(plan.to_owned()),
        ..Claims::default()
    })
}

impl World {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        Self::open(tempfile::tempdir().unwrap(), settings)
    }

    /// Starts on a directory that may have data of an earlier run.
    pub fn open(dir: tempfile::TempDir, settings: Settings) -> Self {
        let db = ambidex_testdb::open(dir.path());
        let blobs = Blobs::local(&dir.path().join("blobs"), [7; 32]).unwrap();
        let clock = Clock::manual(START_MS);
        let fleet = Arc::new(Fleet::default());
        let ports = Ports {
            inventory: Arc::clone(&fleet) as Arc<dyn Inventory>,
            filters: Arc::clone(&fleet) as Arc<dyn Filters>,
        };
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let service = Deployments::new(
            db.clone(),
            blobs,
            clock.clone(),
            ports,
            jobs.clone(),
            settings,
        )
        .unwrap();
        let grants = Arc::new(Mutex::new(Grants::everything()));
        let check = Everybody(Arc::clone(&grants));
        let access = Access::new(keys(), clock.clone(), Arc::new(check));
        let public = front(service.routes().layer(Extension(access)));
        let internal = front(service.internal_routes());
        let user = user_token(None, "enterprise");
        Self {
            dir,
            clock,
            fleet,
            grants,
            jobs,
            db,
            service,
            public,
            internal,
            user,
            tenant: None,
        }
    }

    /// The same server seen by another tenant.
    pub fn tenant(&self, id: &str, plan: &str) -> Tenant<'_> {
        Tenant {
            world: self,
            id: id.to_owned(),
            user: user_token(Some(id), plan),
        }
    }

    pub fn device(&self, n: u128) -> Device {
        device(n, self.tenant.as_deref())
    }

    pub fn devices(&self, numbers: std::ops::Range<u128>) -> Vec<Device> {
        numbers.map(|n| self.device(n)).collect()
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        send(&self.public, request).await
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Reply {
        self.send(request(method, path, Some(token), body)).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", &format!("{MANAGEMENT}{path}"), &self.user, None)
            .await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(
            "POST",
            &format!("{MANAGEMENT}{path}"),
            &self.user,
            Some(body),
        )
        .await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(
            "PUT",
            &format!("{MANAGEMENT}{path}"),
            &self.user,
            Some(body),
        )
        .await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", &format!("{MANAGEMENT}{path}"), &self.user, None)
            .await
    }

    pub async fn internal(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        send(
            &self.internal,
            request(method, &format!("{INTERNAL}{path}"), None, body),
        )
        .await
    }

    /// A request to version 2 of the management API.
    pub async fn v2(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let path = format!("/api/management/v2/deployments{path}");
        self.call(method, &path, &self.user, body).await
    }

    /// Follows a link that this server signed.
    pub async fn follow(&self, method: &str, uri: &str, body: Vec<u8>) -> Reply {
        let path = uri.strip_prefix(&format!("http://{HOST}")).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", HOST)
            .body(Body::from(body))
            .unwrap();
        self.send(request).await
    }

    /// `POST next`, version 2, which must be 200 or 204.
    pub async fn poll_v2(&self, device: &Device, pauses: bool) -> Option<Value> {
        let body = json!({
            "device_provides": {
                "device_type": device.device_type,
                "artifact_name": device.artifact_name,
            },
            "update_control_map": pauses,
        });
        let path = "/api/devices/v2/deployments/device/deployments/next";
        let reply = self.call("POST", path, &device.token, Some(body)).await;
        match reply.status {
            204 => None,
            _ => Some(reply.expect(200).json()),
        }
    }

    /// Uploads an artifact file; any answer.
    pub async fn upload(&self, file: &[u8]) -> Reply {
        self.upload_form(&Form::new().file(file)).await
    }

    pub async fn upload_form(&self, form: &Form) -> Reply {
        self.send(form.request(&format!("{MANAGEMENT}/artifacts"), Some(&self.user)))
            .await
    }

    /// Uploads an artifact of this name for these device types; returns its id.
    pub async fn artifact(&self, name: &str, device_types: &[&str]) -> String {
        self.upload(&artifact(name, device_types))
            .await
            .expect(201)
            .created()
    }

    /// Creates a deployment of an artifact for devices; returns its id.
    pub async fn deployment(&self, artifact_name: &str, devices: &[Device]) -> String {
        let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        let body = json!({"name": "production", "artifact_name": artifact_name, "devices": ids});
        self.post("/deployments", body).await.expect(201).created()
    }

    /// `GET next`.
    pub async fn poll_raw(&self, device: &Device) -> Reply {
        let query = format!(
            "artifact_name={}&device_type={}",
            device.artifact_name, device.device_type
        );
        self.call(
            "GET",
            &format!("{DEVICES}/next?{query}"),
            &device.token,
            None,
        )
        .await
    }

    /// `GET next`, which must be 200 or 204.
    pub async fn poll(&self, device: &Device) -> Option<Instructions> {
        let reply = self.poll_raw(device).await;
        match reply.status {
            204 => {
                assert!(reply.body.is_empty(), "{reply:?}");
                None
            }
            _ => Some(serde_json::from_slice(&reply.expect(200).body).unwrap()),
        }
    }

    pub async fn report(&self, device: &Device, deployment: &str, status: &str) -> Reply {
        self.report_body(device, deployment, json!({"status": status}))
            .await
    }

    pub async fn report_body(&self, device: &Device, deployment: &str, body: Value) -> Reply {
        let path = format!("{DEVICES}/{deployment}/status");
        self.call("PUT", &path, &device.token, Some(body)).await
    }

    pub async fn statistics(&self, deployment: &str) -> HashMap<String, u64> {
        let reply = self
            .get(&format!("/deployments/{deployment}/statistics"))
            .await
            .expect(200);
        serde_json::from_value(reply.json()).unwrap()
    }

    /// The statistics that are not zero.
    pub async fn counts(&self, deployment: &str) -> Value {
        let counts: serde_json::Map<String, Value> = self
            .statistics(deployment)
            .await
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| (status, json!(count)))
            .collect();
        Value::Object(counts)
    }

    pub async fn show(&self, deployment: &str) -> Value {
        self.get(&format!("/deployments/{deployment}"))
            .await
            .expect(200)
            .json()
    }

    pub async fn device_rows(&self, deployment: &str) -> Vec<Value> {
        let reply = self
            .get(&format!("/deployments/{deployment}/devices"))
            .await
            .expect(200);
        reply.json().as_array().unwrap().clone()
    }

    /// Number of files in the artifact store, finished or not.
    pub fn files(&self) -> usize {
        fn count(dir: &std::path::Path) -> usize {
            std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| if path.is_dir() { count(&path) } else { 1 })
                .sum()
        }
        count(&self.dir.path().join("blobs"))
    }

    /// The events that were sent to the audit log, as action, kind and id of the object.
    pub async fn audited(&self) -> Vec<(String, String, String)> {
        let sql = "SELECT payload FROM jobs_jobs WHERE kind = 'audit' ORDER BY id";
        let rows = self.db.query(sql, Vec::new()).await.unwrap();
        rows.iter()
            .map(|row| {
                let event: Value = serde_json::from_str(row.text(0).unwrap()).unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (
                    text(&event["action"]),
                    text(&event["object"]["type"]),
                    text(&event["object"]["id"]),
                )
            })
            .collect()
    }

    pub async fn rows(&self, sql: &'static str) -> i64 {
        self.db.query(sql, Vec::new()).await.unwrap()[0]
            .get(0)
            .unwrap()
    }
}

pub fn device(n: u128, tenant: Option<&str>) -> Device {
    let id = Uuid::from_u128(n).to_string();
    let token = sign(Claims {
        jti: Some(Uuid::from_u128(n)),
        sub: id.clone(),
        device: Some(true),
        tenant: tenant.map(str::to_owned),
        ..Claims::default()
    });
    Device {
        id,
        token,
        device_type: "qemu".to_owned(),
        artifact_name: "old".to_owned(),
    }
}

/// A tenant of a server with several.
pub struct Tenant<'a> {
    world: &'a World,
    pub id: String,
    pub user: String,
}

impl Tenant<'_> {
    pub fn device(&self, n: u128) -> Device {
        device(n, Some(&self.id))
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.world
            .call(method, &format!("{MANAGEMENT}{path}"), &self.user, body)
            .await
    }

    pub async fn upload(&self, form: &Form) -> Reply {
        self.world
            .send(form.request(&format!("{MANAGEMENT}/artifacts"), Some(&self.user)))
            .await
    }
}

pub fn request(
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Request<Body> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header("host", HOST);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    match body {
        Some(body) => builder
            .header("content-type", "application/json")
            .body(Body::from(body.to_string())),
        None => builder.body(Body::empty()),
    }
    .unwrap()
}

pub async fn send(app: &Router, request: Request<Body>) -> Reply {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    if parts.status == StatusCode::INTERNAL_SERVER_ERROR {
        panic!("internal error");
    }
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

/// A multipart form.
#[derive(Default)]
pub struct Form {
    parts: Vec<(String, Option<&'static str>, Vec<u8>)>,
}

impl Form {
    pub const BOUNDARY: &'static str = "----ambidex-7f3a";

    pub fn new() -> Self {
        Self::default()
    }

    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.parts
            .push((name.to_owned(), None, value.as_bytes().to_vec()));
        self
    }

    pub fn file(mut self, content: &[u8]) -> Self {
        self.parts
            .push(("artifact".to_owned(), Some("a.mender"), content.to_vec()));
        self
    }

    /// A part that is a file, of any name.
    pub fn raw(mut self, name: &str, content: &[u8]) -> Self {
        self.parts
            .push((name.to_owned(), Some("raw.bin"), content.to_vec()));
        self
    }

    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, filename, content) in &self.parts {
            body.extend(format!("--{}\r\n", Self::BOUNDARY).bytes());
            body.extend(format!("Content-Disposition: form-data; name=\"{name}\"").bytes());
            if let Some(filename) = filename {
                body.extend(format!("; filename=\"{filename}\"").bytes());
            }
            body.extend(b"\r\n\r\n");
            body.extend(content);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{}--\r\n", Self::BOUNDARY).bytes());
        body
    }

    pub fn request(&self, path: &str, token: Option<&str>) -> Request<Body> {
        Self::raw_request(path, token, Body::from(self.body()))
    }

    pub fn raw_request(path: &str, token: Option<&str>, body: Body) -> Request<Body> {
        let mut builder = Request::post(path).header("host", HOST).header(
            "content-type",
            format!("multipart/form-data; boundary={}", Self::BOUNDARY),
        );
        if let Some(token) = token {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        builder.body(body).unwrap()
    }
}

/// An artifact file.
pub fn artifact(name: &str, device_types: &[&str]) -> Vec<u8> {
    artifact_with(name, device_types, b"alpha\n", |_| ())
}

pub fn artifact_with(
    name: &str,
    device_types: &[&str],
    content: &[u8],
    change: impl FnOnce(&mut ArtifactSpec),
) -> Vec<u8> {
    let types = device_types.iter().map(|text| (*text).to_owned()).collect();
    let mut spec = ArtifactSpec::new(Payload::Module("test-module".to_owned()), name, types);
    change(&mut spec);
    let mut file = Cursor::new(Vec::new());
    let payload = [PayloadSource::from_bytes("file-a.txt", content)];
    write(&spec, &payload, None, &mut file, &mut |_| ()).unwrap();
    file.into_inner()
}

/// Bytes that no codec makes smaller.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// An artifact that depends on a value of `key`.
pub fn artifact_depending(name: &str, device_types: &[&str], key: &str, value: &str) -> Vec<u8> {
    artifact_with(name, device_types, b"alpha\n", |spec| {
        spec.type_depends
            .insert(key.to_owned(), vec![value.to_owned()]);
    })
}

pub fn ids(items: &Value) -> Vec<String> {
    items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}
