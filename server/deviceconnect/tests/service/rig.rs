//! One or more instances of the service on one database and one bus, and clients of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambidex_access::{
    Access, Addon, Claims, Denied, DeviceClaims, DeviceIdentity, Grants, Keys, TenantId,
    TokenCheck, UserClaims, UserIdentity,
};
use ambidex_bus::Bus;
use ambidex_db::Db;
use ambidex_deviceconnect::ports::{Neighbours, PortError};
use ambidex_deviceconnect::{Deviceconnect, Settings};
use ambidex_jobs::{Handler, Job, JobError, Jobs};
use ambidex_kit::{BoxFuture, Clock, Limits, Shutdown, front, serve};
use ambidex_wire::session::{Message, shell};
use axum::body::Body;
use axum::{Extension, Router};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message as WsMessage};
use tokio_tungstenite::{WebSocketStream, client_async};
use tower::ServiceExt as _;
use uuid::Uuid;

pub const MANAGEMENT: &str = "/api/management/v1/deviceconnect";
pub const INTERNAL: &str = "/api/internal/v1/deviceconnect";
pub const CONNECT: &str = "/api/devices/v1/deviceconnect/connect";
pub const USER: &str = "5f8b1c0e-0000-4000-8000-000000000001";
/// What a test waits for at most.
pub const LIMIT: Duration = Duration::from_secs(20);
const NOW: i64 = 1_612_173_600_000;

/// What the neighbours say; tests change it.
#[derive(Default)]
pub struct Says {
    pub group: Option<String>,
    pub grants: Grants,
    pub no_addon: bool,
    pub device_revoked: bool,
    pub user_revoked: bool,
}

#[derive(Default, Clone)]
pub struct World(Arc<Mutex<Says>>);

impl World {
    pub fn set(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.0.lock().unwrap());
    }
    fn ask<T>(&self, question: impl FnOnce(&Says) -> T) -> T {
        question(&self.0.lock().unwrap())
    }
}

impl Neighbours for World {
    fn group<'a>(
        &'a self,
        _: &'a TenantId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async { Ok(self.ask(|says| says.group.clone())) })
    }
    fn may_troubleshoot<'a>(&'a self, _: &'a TenantId) -> BoxFuture<'a, Result<bool, PortError>> {
        Box::pin(async { Ok(!self.ask(|says| says.no_addon)) })
    }
    fn device_counts<'a>(
        &'a self,
        _: &'a DeviceIdentity,
    ) -> BoxFuture<'a, Result<bool, PortError>> {
        Box::pin(async { Ok(!self.ask(|says| says.device_revoked)) })
    }
    fn user_counts<'a>(&'a self, _: &'a UserIdentity) -> BoxFuture<'a, Result<bool, PortError>> {
        Box::pin(async { Ok(!self.ask(|says| says.user_revoked)) })
    }
}

impl TokenCheck for World {
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
        Box::pin(async { Ok(self.ask(|says| says.grants.clone())) })
    }
}

/// Keeps the events that reach the audit log.
#[derive(Default, Clone)]
struct AuditLog(Arc<Mutex<Vec<(String, Value)>>>);

impl Handler for AuditLog {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        let event = (job.tenant.clone(), job.payload.clone());
        self.0.lock().unwrap().push(event);
        Box::pin(async { Ok(()) })
    }
}

/// What instances share.
pub struct Rig {
    _dir: tempfile::TempDir,
    db: Db,
    keys: Arc<Keys>,
    pub bus: Bus,
    jobs: Jobs,
    log: AuditLog,
    pub clock: Clock,
    pub world: World,
}

/// One serving instance.
pub struct Instance {
    pub service: Deviceconnect,
    pub address: SocketAddr,
    public: Router,
    internal: Router,
    shutdown: Shutdown,
    server: JoinHandle<usize>,
}

impl Rig {
    pub fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        let clock = Clock::manual(NOW);
        let jobs = Jobs::new(db.clone(), clock.clone()).unwrap();
        let log = AuditLog::default();
        jobs.handle(ambidex_jobs::AUDIT, Arc::new(log.clone()));
        Rig {
            keys: Arc::new(Keys::open(&dir.path().join("keys")).unwrap()),
            _dir: dir,
            db,
            bus: Bus::local(),
            jobs,
            log,
            clock,
            world: World::default(),
        }
    }

    pub async fn start(&self, settings: Settings) -> Instance {
        let service = Deviceconnect::new(
            self.db.clone(),
            self.clock.clone(),
            self.bus.clone(),
            self.jobs.clone(),
            Arc::new(self.world.clone()),
            settings,
        )
        .unwrap();
        service.join(false).await.unwrap();
        let check = Arc::new(self.world.clone());
        let access = Access::new(Arc::clone(&self.keys), self.clock.clone(), check);
        let public = front(service.routes().layer(Extension(access)));
        let internal = front(service.internal_routes());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let limits = Limits::default();
        let serving = serve(listener, public.clone(), None, limits, shutdown.clone());
        Instance {
            service,
            address,
            public,
            internal,
            shutdown,
            server: tokio::spawn(serving),
        }
    }

    pub fn device_token(&self, device: &str, tenant: Option<&str>) -> String {
        let claims = Claims::device(DeviceClaims {
            jti: Uuid::new_v4(),
            sub: Uuid::parse_str(device).unwrap(),
            tenant: tenant.map(str::to_owned),
            plan: "enterprise".to_owned(),
            trial: None,
            addons: Addon::all_enabled(),
            issuer: "Mender".to_owned(),
            issued_s: NOW / 1000,
            expires_s: NOW / 1000 + 604_800,
        });
        self.keys.sign(&claims).unwrap()
    }

    pub fn user_token(&self, tenant: Option<&str>) -> String {
        let claims = Claims::user(UserClaims {
            jti: Uuid::new_v4(),
            sub: USER.to_owned(),
            tenant: tenant.map(str::to_owned),
            plan: "enterprise".to_owned(),
            trial: None,
            addons: Addon::all_enabled(),
            issued_s: NOW / 1000,
            expires_s: None,
        });
        self.keys.sign(&claims).unwrap()
    }

    /// Connects a device of the one tenant; returns once it is reachable.
    pub async fn device(&self, on: &Instance, id: &str) -> Client {
        let device = Client::connect(on, CONNECT, &bearer(&self.device_token(id, None)))
            .await
            .unwrap();
        self.wait_status(on, id, "connected").await;
        device
    }

    pub async fn user(&self, on: &Instance, device: &str) -> Client {
        self.try_user(on, device).await.unwrap()
    }

    pub async fn try_user(&self, on: &Instance, device: &str) -> Result<Client, Refusal> {
        let path = format!("{MANAGEMENT}/devices/{device}/connect");
        Client::connect(on, &path, &bearer(&self.user_token(None))).await
    }

    pub async fn get(&self, on: &Instance, path: &str) -> (u16, HeaderMap, Vec<u8>) {
        self.call(on, "GET", path, Body::empty(), None).await
    }

    pub async fn call(
        &self,
        on: &Instance,
        method: &str,
        path: &str,
        body: Body,
        content_type: Option<&str>,
    ) -> (u16, HeaderMap, Vec<u8>) {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{MANAGEMENT}{path}"))
            .header("authorization", format!("Bearer {}", self.user_token(None)));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        answer(&on.public, request.body(body).unwrap()).await
    }

    pub async fn status(&self, on: &Instance, device: &str) -> String {
        let (status, _, body) = self.get(on, &format!("/devices/{device}")).await;
        match status {
            200 => json(&body)["status"].as_str().unwrap().to_owned(),
            other => other.to_string(),
        }
    }

    pub async fn wait_status(&self, on: &Instance, device: &str, wanted: &str) {
        wait(&format!("{device} {wanted}"), async || {
            self.status(on, device).await == wanted
        })
        .await;
    }

    /// The actions in the audit log with their meta data, in order.
    pub async fn audit(&self) -> Vec<(String, Value)> {
        self.jobs.run_due().await.unwrap();
        let mut events = self.log.0.lock().unwrap().clone();
        events.sort_by_key(|(_, event)| event["time"].to_string());
        events
            .into_iter()
            .map(|(_, event)| (event["action"].as_str().unwrap().to_owned(), event))
            .collect()
    }

    pub async fn wait_audit(&self, action: &str) -> Value {
        let mut found = None;
        wait(&format!("{action} in the audit log"), async || {
            found = self.audit().await.into_iter().find(|(a, _)| a == action);
            found.is_some()
        })
        .await;
        found.unwrap().1
    }
}

impl Instance {
    pub async fn internal(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(format!("{INTERNAL}{path}"))
            .body(Body::from(body.to_owned()))
            .unwrap();
        let (status, _, body) = answer(&self.internal, request).await;
        (status, String::from_utf8(body).unwrap())
    }

    /// Asks it to stop; how many connections it had to cut off.
    pub async fn stop(self) -> usize {
        self.shutdown.trigger();
        let cut = tokio::time::timeout(LIMIT, self.server)
            .await
            .unwrap()
            .unwrap();
        self.service.leave().await.unwrap();
        cut
    }
}

async fn answer(routes: &Router, request: Request<Body>) -> (u16, HeaderMap, Vec<u8>) {
    let response = routes.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes().to_vec());
    (
        parts.status.as_u16(),
        parts.headers,
        body.unwrap_or_default(),
    )
}

pub fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(body)))
}

pub fn bearer(token: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {token}"))]
}

pub async fn wait(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition().await {
        assert!(started.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An answer that was no upgrade: status and body.
pub type Refusal = (u16, String);

/// A websocket of a device or user.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    pub headers: HeaderMap,
}

/// What ended a socket: code and reason of the close frame; 1006 without one.
pub type Closed = (u16, String);

impl Client {
    pub async fn connect(
        on: &Instance,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Client, Refusal> {
        let mut request = format!("ws://{}{path}", on.address)
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(on.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match client_async(request, stream).await {
            Ok((socket, response)) => Ok(Client {
                socket,
                headers: response.headers().clone(),
            }),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                let text = String::from_utf8_lossy(&body).into_owned();
                Err((response.status().as_u16(), text))
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn raw(&mut self, message: WsMessage) {
        self.socket.send(message).await.unwrap();
    }

    pub async fn send(&mut self, message: Message) {
        self.raw(WsMessage::Binary(message.encode().into())).await;
    }

    /// The next message; pings are passed over.
    pub async fn next(&mut self) -> Result<Message, Closed> {
        loop {
            let next = tokio::time::timeout(LIMIT, self.socket.next()).await;
            match next.expect("a message or the end in time") {
                Some(Ok(WsMessage::Binary(bytes))) => return Ok(Message::decode(&bytes).unwrap()),
                Some(Ok(WsMessage::Close(frame))) => {
                    let frame = frame.map(|f| (u16::from(f.code), f.reason.to_string()));
                    return Err(frame.unwrap_or((1005, String::new())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err((1006, String::new())),
            }
        }
    }

    /// The next message, which must be of this type.
    pub async fn expect(&mut self, typ: &str) -> Message {
        let message = self.next().await.unwrap();
        assert_eq!(message.typ, typ, "{message:?}");
        message
    }

    /// Waits for the end, passing over messages.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }

    /// The next frame of any kind.
    pub async fn frame(&mut self) -> WsMessage {
        let next = tokio::time::timeout(LIMIT, self.socket.next()).await;
        next.expect("a frame in time").unwrap().unwrap()
    }

    /// Asks and gets a shell; the device's side must answer.
    pub async fn start_shell(&mut self) {
        let new = Message::new(1, shell::NEW, "")
            .prop(shell::WIDTH, 100)
            .prop(shell::HEIGHT, 30);
        self.send(new).await;
    }
}

pub fn new_device() -> String {
    Uuid::new_v4().to_string()
}

/// Settings that make a second of waiting a few milliseconds.
pub fn hasty() -> Settings {
    Settings {
        ping: Duration::from_millis(60),
        silence: Duration::from_millis(400),
        keepalive: Duration::from_millis(100),
        recheck: Duration::from_millis(50),
        ..Settings::default()
    }
}
