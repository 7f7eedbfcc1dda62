//! User administration over its routers, with the real database, keys and extractors.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::sync::{Arc, Mutex};

use ambidex_access::{
    Access, Addon, Claims, Denied, DeviceClaims, DeviceIdentity, Keys, TenantId, TokenCheck,
    UserIdentity,
};
use ambidex_db::Db;
use ambidex_kit::{BoxFuture, Clock, front};
use ambidex_useradm::ports::{PortError, TenantFacts, Tenants};
use ambidex_useradm::{NewUser, Settings, Useradm};
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

/// Two tenants besides the default one; keeps what it is told.
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
        let known = ["", "t1", "t2"].contains(&tenant.as_str());
        let barred = self.suspended.lock().unwrap().contains(&tenant.to_string());
        Box::pin(async move {
            Ok(known.then(|| TenantFacts {
                plan: if tenant.as_str() == "t2" {
                    "os"
                } else {
                    "enterprise"
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
        _: &'a Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async move {
            match self.0.token_counts(user).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Denied::Unauthorized("unauthorized".to_owned())),
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
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&dir.path().join("db")).unwrap();
        let keys = Arc::new(Keys::open(dir.path()).unwrap());
        let clock = Clock::manual(NOW);
        let neighbour = Arc::new(Neighbour::default());
        let tenants = Arc::clone(&neighbour) as Arc<dyn Tenants>;
        let useradm =
            Useradm::new(db, clock.clone(), Arc::clone(&keys), tenants, settings).unwrap();
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
        let request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body.to_string()))
            .unwrap();
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

#[tokio::test]
async fn login_issues_the_documented_token() {
    let world = World::new();
    let id = world.user("t1", "User@Example.com").await;
    let answer = world.try_login("USER@example.com", PASSWORD, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/jwt");
    let claims = world.keys.verify(&answer.text).unwrap();
    assert_eq!(claims.sub, id);
    assert_eq!(
        (claims.iat, claims.nbf),
        (Some(NOW / 1000), Some(NOW / 1000))
    );
    assert_eq!(claims.exp, Some(NOW / 1000 + 604_800));
    assert_eq!(
        (claims.iss.as_str(), claims.scp.as_deref()),
        ("mender.useradm", Some("mender.*"))
    );
    assert_eq!((claims.user, claims.device), (Some(true), None));
    assert_eq!(
        (claims.tenant.as_deref(), claims.plan.as_deref()),
        (Some("t1"), Some("enterprise"))
    );

    let me = world
        .call("GET", "/users/me", &answer.text, "")
        .await
        .json();
    assert_eq!(
        me,
        json!({
            "id": id, "email": "user@example.com",
            "created_ts": "2021-02-01T10:00:00Z", "updated_ts": "2021-02-01T10:00:00Z",
            "login_ts": "2021-02-01T10:00:00Z",
        })
    );
    let forever = world
        .try_login("user@example.com", PASSWORD, r#"{"no_expiry":true}"#)
        .await;
    assert_eq!(world.keys.verify(&forever.text).unwrap().exp, None);
}

#[tokio::test]
async fn refused_logins_tell_nothing() {
    let world = World::new();
    world.user("", "a@b.c").await;
    for (email, password) in [
        ("a@b.c", "wrong password"),
        ("nobody@b.c", PASSWORD),
        ("", ""),
        ("a@b.c", ""),
    ] {
        let answer = world.try_login(email, password, "").await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (401, "unauthorized"),
            "{email}"
        );
    }
    let request = Request::post(format!("{BASE}/auth/login"))
        .body(Body::empty())
        .unwrap();
    let answer = world.send(&world.public, request).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (401, "invalid or missing auth header")
    );
    assert_eq!(
        world.try_login("a@b.c", PASSWORD, "{broken").await.status,
        400
    );
    world
        .neighbour
        .suspended
        .lock()
        .unwrap()
        .push(String::new());
    let answer = world.try_login("a@b.c", PASSWORD, "").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (401, "tenant account suspended")
    );
}

#[tokio::test]
async fn secured_operations_answer_401_first() {
    let world = World::new();
    let device = world
        .keys
        .sign(&Claims::device(DeviceClaims {
            jti: Uuid::from_u128(1),
            sub: Uuid::from_u128(2),
            tenant: None,
            plan: "enterprise".to_owned(),
            trial: None,
            addons: vec![],
            issuer: "Mender".to_owned(),
            issued_s: 0,
            expires_s: i64::MAX,
        }))
        .unwrap();
    for (method, path) in [
        ("POST", "/auth/logout"),
        ("POST", "/auth/plan-verify"),
        ("GET", "/users"),
        ("POST", "/users"),
        ("GET", "/users/x"),
        ("PUT", "/users/x"),
        ("DELETE", "/users/x"),
        ("GET", "/settings"),
        ("POST", "/settings"),
    ] {
        for (header, text) in [
            (None, "Authorization not present in header"),
            (Some("Bearer"), "malformed Authorization header"),
            (Some("Basic abc"), "unknown Authorization method Basic"),
            (Some("Bearer nonsense"), "unauthorized"),
            (Some(&*format!("Bearer {device}")), "unauthorized"),
        ] {
            let mut request = Request::builder()
                .method(method)
                .uri(format!("{BASE}{path}"));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let answer = world
                .send(&world.public, request.body(Body::empty()).unwrap())
                .await;
            assert_eq!(
                (answer.status, answer.error().as_str()),
                (401, text),
                "{method} {path}"
            );
            assert_eq!(
                answer.headers["www-authenticate"],
                "Bearer realm=\"ManagementJWT\""
            );
        }
    }
}

#[tokio::test]
async fn sessions_end() {
    let world = World::with(Settings {
        sessions_max: 3,
        ..Settings::default()
    });
    world.user("", "a@b.c").await;
    let works = async |token: &str| world.call("GET", "/users/me", token, "").await.status == 200;
    let first = world.login("a@b.c").await;
    let second = world.login("a@b.c").await;
    assert_eq!(
        world.call("POST", "/auth/logout", &first, "").await.status,
        202
    );
    assert!(
        !works(&first).await && works(&second).await,
        "own session only"
    );

    // Beyond the limit the oldest goes.
    let mut tokens = vec![second];
    for _ in 0..3 {
        world.clock.advance(1000);
        tokens.push(world.login("a@b.c").await);
    }
    assert!(!works(&tokens[0]).await);
    assert!(works(&tokens[1]).await && works(&tokens[3]).await);

    // A new password ends all but the one that set it.
    let body = json!({"password": "another password"});
    assert_eq!(
        world
            .call("PUT", "/users/me", &tokens[2], &body)
            .await
            .status,
        204
    );
    assert!(!works(&tokens[1]).await && works(&tokens[2]).await && !works(&tokens[3]).await);
    assert_eq!(world.try_login("a@b.c", PASSWORD, "").await.status, 401);
    assert_eq!(
        world
            .try_login("a@b.c", "another password", "")
            .await
            .status,
        200
    );

    world
        .useradm
        .set_password("A@b.c", PASSWORD.to_owned())
        .await
        .unwrap();
    assert!(!works(&tokens[2]).await, "all sessions");
    let last = world.login("a@b.c").await;
    world.clock.advance(604_800_000);
    let expired = world.call("GET", "/users/me", &last, "").await;
    assert_eq!(
        (expired.status, expired.error().as_str()),
        (401, "token expired")
    );
}

#[tokio::test]
async fn users_are_created_changed_and_deleted() {
    let world = World::new();
    world.user("t1", "admin@one.example").await;
    world.user("t2", "admin@two.example").await;
    let token = world.login("admin@one.example").await;
    let other = world.login("admin@two.example").await;

    let new =
        |email: &str, password: &str| json!({"email": email, "password": password}).to_string();
    for (body, status, text) in [
        (
            new("a@b.c", "1234567"),
            422,
            "password: must be minimum 8 characters long",
        ),
        (new("", "12345678"), 400, "email: cannot be blank."),
        (
            new("nonsense", "12345678"),
            400,
            "email: must be a valid email address.",
        ),
        (
            new("admin@TWO.example", "12345678"),
            422,
            "user with a given email already exists",
        ),
        (
            json!({"email": "a@b.c"}).to_string(),
            422,
            "password: must be given, this server sends no mail to set it later",
        ),
        (
            json!({"email": "a@b.c", "password": "12345678", "roles": ["X"]}).to_string(),
            422,
            "role X does not exist: this server knows RBAC_ROLE_PERMIT_ALL only",
        ),
    ] {
        let answer = world.call("POST", "/users", &token, &body).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (status, text),
            "{body}"
        );
    }
    for body in ["", "[]", "{", r#"{"email": 1}"#] {
        let answer = world.call("POST", "/users", &token, body).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer
                .error()
                .starts_with("failed to decode request body: "),
            "{body}"
        );
    }
    let answer = world
        .call("POST", "/users", &token, new("New@One.example", "12345678"))
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (201, ""));
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let id = location.strip_prefix("users/").unwrap().to_owned();
    let path = format!("/users/{id}");

    for (token, status) in [(&token, 200), (&other, 404)] {
        assert_eq!(world.call("GET", &path, token, "").await.status, status);
    }
    let put = async |token: &str, body: Value| {
        let answer = world.call("PUT", &path, token, body).await;
        let text = if answer.text.is_empty() {
            String::new()
        } else {
            answer.error()
        };
        (answer.status, text)
    };
    assert_eq!(
        put(&other, json!({"email": "x@y.z"})).await,
        (404, "user not found".to_owned())
    );
    assert_eq!(
        put(&token, json!({})).await,
        (400, "no update information provided".to_owned())
    );
    assert_eq!(
        put(&token, json!({"email": "admin@two.example"})).await.0,
        422
    );
    assert_eq!(put(&token, json!({"password": "short"})).await.0, 422);
    assert_eq!(put(&token, json!({"roles": []})).await.0, 422);
    assert_eq!(
        put(&token, json!({"email": "renamed@one.example"})).await.0,
        204
    );
    assert_eq!(
        world
            .try_login("renamed@one.example", "12345678", "")
            .await
            .status,
        200
    );

    for (token, who) in [
        (&other, "another tenant's"),
        (&token, "own"),
        (&token, "gone"),
    ] {
        assert_eq!(
            world.call("DELETE", &path, token, "").await.status,
            204,
            "{who}"
        );
        let left = world
            .try_login("renamed@one.example", "12345678", "")
            .await
            .status;
        assert_eq!(
            left,
            if who == "another tenant's" { 200 } else { 401 },
            "{who}"
        );
    }
    let told = world.neighbour.told.lock().unwrap().clone();
    assert!(
        told.contains(&"t1:renamed@one.example".to_owned()),
        "{told:?}"
    );
    assert!(told.contains(&format!("t1:-{id}")), "{told:?}");
}

#[tokio::test]
async fn lists_are_filtered() {
    let world = World::new();
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(world.user("t1", &format!("{name}@x.y")).await);
        world.clock.advance(10_000);
    }
    world.user("t2", "foreign@x.y").await;
    let token = world.login("a@x.y").await;
    let second = NOW / 1000;
    for (query, wanted) in [
        (String::new(), "abc"),
        (format!("?id={}&id={}", ids[0], ids[2]), "ac"),
        ("?email=B@x.y".to_owned(), "b"),
        (format!("?email=b@x.y&id={}", ids[0]), ""),
        (format!("?created_after={second}"), "bc"),
        (
            format!("?created_after={second}&created_before={}", second + 20),
            "b",
        ),
        (format!("?updated_before={}", second + 10), "a"),
    ] {
        let answer = world
            .call("GET", &format!("/users{query}"), &token, "")
            .await;
        let list = answer.json();
        let names: String = list
            .as_array()
            .unwrap()
            .iter()
            .map(|u| &u["email"].as_str().unwrap()[..1])
            .collect();
        assert_eq!(names, wanted, "{query}");
    }
    let answer = world
        .call("GET", "/users?created_after=x", &token, "")
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .error()
            .starts_with("api: invalid form values: invalid form parameter \"created_after\"")
    );
}

#[tokio::test]
async fn settings_are_kept_as_they_came() {
    let world = World::new();
    for (tenant, email) in [("t1", "a@b.c"), ("t2", "b@b.c")] {
        world.user(tenant, email).await;
    }
    let (token, other) = (world.login("a@b.c").await, world.login("b@b.c").await);
    assert_eq!(world.call("GET", "/settings", &token, "").await.text, "{}");
    let text = r#"{ "z": 1.50, "id_attribute": {"scope":"identity"}, "2fa": "enabled" }"#;
    let answer = world.call("POST", "/settings", &token, text).await;
    assert_eq!((answer.status, answer.text.as_str()), (201, ""));
    assert_eq!(world.call("GET", "/settings", &token, "").await.text, text);
    assert_eq!(world.call("GET", "/settings", &other, "").await.text, "{}");
    for bad in ["", "[]", "1", "{", "null"] {
        let answer = world.call("POST", "/settings", &token, bad).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (400, "cannot parse request body as json"),
            "{bad}"
        );
    }
    let big = format!(r#"{{"k":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(
        world.call("POST", "/settings", &token, big).await.status,
        413
    );
    assert_eq!(
        world
            .call("POST", "/settings", &token, r#"{"u_2fa":"enabled"}"#)
            .await
            .status,
        403
    );
    assert_eq!(
        world.call("GET", "/settings", &token, "").await.text,
        text,
        "nothing changed"
    );
}

#[tokio::test]
async fn plans_are_compared() {
    let world = World::new();
    world.user("t1", "enterprise@b.c").await;
    world.user("t2", "os@b.c").await;
    for (email, plan, status) in [
        ("enterprise@b.c", "enterprise", 202),
        ("enterprise@b.c", "os", 202),
        ("os@b.c", "os", 202),
        ("os@b.c", "professional", 403),
        ("enterprise@b.c", "golden", 403),
        ("enterprise@b.c", "", 403),
    ] {
        let request = Request::post(format!("{BASE}/auth/plan-verify"))
            .header(
                "authorization",
                format!("Bearer {}", world.login(email).await),
            )
            .header("x-mender-required-minimal-plan", plan)
            .body(Body::empty())
            .unwrap();
        assert_eq!(
            world.send(&world.public, request).await.status,
            status,
            "{email} {plan}"
        );
    }
}

#[tokio::test]
async fn the_gateway_can_ask_about_tokens() {
    let world = World::new();
    let id = world.user("t1", "a@b.c").await;
    let token = world.login("a@b.c").await;
    let bearer = format!("Bearer {token}");
    let uri = (
        "x-original-uri",
        "/api/management/v1/deployments/artifacts?page=1",
    );
    let method = ("x-original-method", "GET");
    let good = [("authorization", bearer.as_str()), uri, method];
    for verb in ["POST", "GET"] {
        assert_eq!(
            world.inner(verb, "/auth/verify", &good, "").await.status,
            200
        );
    }
    let forwarded = [
        good[0],
        ("x-forwarded-uri", uri.1),
        ("x-forwarded-method", "GET"),
    ];
    assert_eq!(
        world
            .inner("POST", "/auth/verify", &forwarded, "")
            .await
            .status,
        200
    );
    for (headers, status) in [
        (vec![uri, method], 401),
        (vec![("authorization", "Bearer x"), uri, method], 401),
        (vec![good[0], method], 400),
        (vec![good[0], uri], 400),
        (
            vec![good[0], ("x-original-uri", "/api/management/v1"), method],
            400,
        ),
    ] {
        assert_eq!(
            world
                .inner("POST", "/auth/verify", &headers, "")
                .await
                .status,
            status,
            "{headers:?}"
        );
    }
    let delete = |query: String| format!("/tokens{query}");
    assert_eq!(
        world
            .inner("DELETE", &delete(String::new()), &[], "")
            .await
            .status,
        400
    );
    assert_eq!(
        world
            .inner("DELETE", &delete("?tenant_id=t2".to_owned()), &[], "")
            .await
            .status,
        204
    );
    assert_eq!(
        world.inner("POST", "/auth/verify", &good, "").await.status,
        200,
        "another tenant's"
    );
    assert_eq!(
        world
            .inner(
                "DELETE",
                &delete(format!("?tenant_id=t1&user_id={id}")),
                &[],
                ""
            )
            .await
            .status,
        204
    );
    assert_eq!(
        world.inner("POST", "/auth/verify", &good, "").await.status,
        401
    );
    let late = world.login("a@b.c").await;
    world.clock.advance(604_800_000);
    let late = [("authorization", &*format!("Bearer {late}")), uri, method];
    assert_eq!(
        world.inner("POST", "/auth/verify", &late, "").await.status,
        403,
        "expired"
    );
}

#[tokio::test]
async fn neighbours_can_create_users() {
    let world = World::new();
    let hash = ambidex_access::Passwords::new()
        .hash(PASSWORD.to_owned())
        .await
        .unwrap();
    let post = async |tenant: &str, body: Value| {
        world
            .inner("POST", &format!("/tenants/{tenant}/users"), &[], body)
            .await
            .status
    };
    assert_eq!(
        post("t1", json!({"email": "a@b.c", "password": PASSWORD})).await,
        201
    );
    assert_eq!(
        post(
            "t1",
            json!({"email": "b@b.c", "password_hash": hash, "propagate": false, "id": "custom"})
        )
        .await,
        201
    );
    assert_eq!(
        post(
            "",
            json!({"email": "c@b.c", "password": PASSWORD, "propagate": false})
        )
        .await,
        201
    );
    assert_eq!(
        post("t2", json!({"email": "a@b.c", "password": PASSWORD})).await,
        422
    );
    assert_eq!(
        post("nowhere", json!({"email": "d@b.c", "password": PASSWORD})).await,
        404
    );
    assert_eq!(post("t1", json!({"email": "d@b.c"})).await, 400);
    assert_eq!(
        post(
            "t1",
            json!({"email": "d@b.c", "password": PASSWORD, "password_hash": hash})
        )
        .await,
        400
    );
    assert_eq!(
        post("t1", json!({"email": "d@b.c", "password_hash": hash})).await,
        400,
        "propagate is the default"
    );
    assert_eq!(
        post(
            "t1",
            json!({"email": "d@b.c", "password_hash": "plain", "propagate": false})
        )
        .await,
        422
    );
    for email in ["a@b.c", "b@b.c", "c@b.c"] {
        world.login(email).await;
    }
    let list = world
        .inner("GET", "/tenants/t1/users?id=custom", &[], "")
        .await
        .json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(
        world
            .inner("GET", "/tenants/nowhere/users", &[], "")
            .await
            .text,
        "[]"
    );
    assert_eq!(
        *world.neighbour.told.lock().unwrap(),
        ["t1:a@b.c"],
        "only where asked to"
    );

    for (body, status) in [
        (json!({"tenant_id": "x"}), 201),
        (json!({"tenant_id": "x"}), 201),
        (json!({}), 400),
        (json!(1), 400),
    ] {
        assert_eq!(
            world.inner("POST", "/tenants", &[], body).await.status,
            status
        );
    }
    for path in ["/alive", "/health"] {
        assert_eq!(
            world.inner("GET", path, &[], "").await.status,
            StatusCode::NO_CONTENT
        );
    }
}
