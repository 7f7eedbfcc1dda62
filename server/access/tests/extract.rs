//! The extractors over a router: who gets in, and what the others are told.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::sync::Arc;

use ambidex_access::{
    Access, Claims, Denied, DeviceAuth, DeviceClaims, DeviceIdentity, Grants, Keys, TokenCheck,
    UserAuth, UserClaims, UserIdentity,
};
use ambidex_kit::{BoxFuture, Clock, front};
use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use uuid::Uuid;

const NOW_S: i64 = 1_612_173_600;

/// Decides by the path of the request.
struct Check;

impl Check {
    fn verdict(request: &Parts) -> Result<(), Denied> {
        match request.uri.query() {
            Some("revoked") => Err(Denied::Unauthorized("unauthorized".to_owned())),
            Some("forbidden") => Err(Denied::Forbidden("forbidden by a rule".to_owned())),
            Some("often") => Err(Denied::TooManyRequests { retry_after_s: 7 }),
            Some("broken") => Err(Denied::Internal("the disk is on fire".into())),
            _ => Ok(()),
        }
    }
}

impl TokenCheck for Check {
    fn device<'a>(
        &'a self,
        _: &'a DeviceIdentity,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async { Check::verdict(request) })
    }
    fn user<'a>(
        &'a self,
        _: &'a UserIdentity,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>> {
        Box::pin(async { Check::verdict(request).map(|()| Grants::everything()) })
    }
}

struct World {
    router: Router,
    device: String,
    user: String,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let keys = Arc::new(Keys::open(dir.path()).unwrap());
    let device = Claims::device(DeviceClaims {
        jti: Uuid::from_u128(1),
        sub: Uuid::from_u128(2),
        tenant: None,
        plan: "enterprise".to_owned(),
        trial: None,
        addons: vec![],
        issuer: "Mender".to_owned(),
        issued_s: NOW_S,
        expires_s: NOW_S + 60,
    });
    let user = Claims::user(UserClaims {
        jti: Uuid::from_u128(3),
        sub: "user".to_owned(),
        tenant: Some("t1".to_owned()),
        plan: "os".to_owned(),
        trial: None,
        addons: vec![],
        issued_s: NOW_S,
        expires_s: Some(NOW_S + 60),
    });
    let access = Access::new(
        Arc::clone(&keys),
        Clock::manual(NOW_S * 1000),
        Arc::new(Check),
    );
    let routes =
        Router::new()
            .route(
                "/device",
                get(|DeviceAuth(device): DeviceAuth| async move { device.device_id }),
            )
            .route(
                "/user",
                get(|UserAuth(user): UserAuth| async move {
                    format!("{}/{}", user.tenant, user.user_id)
                }),
            )
            .layer(Extension(access));
    World {
        router: front(routes),
        device: keys.sign(&device).unwrap(),
        user: keys.sign(&user).unwrap(),
        _dir: dir,
    }
}

impl World {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            parts.status.as_u16(),
            parts.headers,
            String::from_utf8(bytes.to_vec()).unwrap(),
        )
    }
}

#[tokio::test]
async fn the_right_bearer_gets_in() {
    let world = world();
    let (device, user) = (
        format!("Bearer {}", world.device),
        format!("bearer {}", world.user),
    );
    let cookie = format!("a=b; JWT={}", world.user);
    for (path, header, value, status, body) in [
        (
            "/device",
            "authorization",
            &device,
            200,
            "00000000-0000-0000-0000-000000000002",
        ),
        ("/user", "authorization", &user, 200, "t1/user"),
        ("/user", "cookie", &cookie, 200, "t1/user"),
        ("/device", "authorization", &user, 401, "unauthorized"),
        ("/user", "authorization", &device, 401, "unauthorized"),
    ] {
        let (got, _, text) = world.get(path, &[(header, value)]).await;
        assert_eq!(got, status, "{path} {header}: {text}");
        assert!(text.contains(body), "{text}");
    }
    let foreign = [
        ("cookie", cookie.as_str()),
        ("origin", "https://evil.example"),
        ("host", "ota.example"),
    ];
    assert_eq!(
        world.get("/user", &foreign).await.0,
        401,
        "a foreign page may not use the cookie"
    );
}

#[tokio::test]
async fn refusals_say_what_the_reference_says() {
    let world = world();
    let bearer = format!("Bearer {}", world.device);
    for (query, status, text) in [
        ("revoked", 401, "unauthorized"),
        ("forbidden", 403, "forbidden by a rule"),
        ("often", 429, "too many requests"),
        ("broken", 500, "internal error"),
    ] {
        let (got, headers, body) = world
            .get(&format!("/device?{query}"), &[("authorization", &bearer)])
            .await;
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (got, error["error"].as_str()),
            (status, Some(text)),
            "{query}"
        );
        let retry = headers.get("retry-after").map(|v| v.to_str().unwrap());
        assert_eq!(retry, (status == 429).then_some("7"));
        let realm = headers.get("www-authenticate").map(|v| v.to_str().unwrap());
        assert_eq!(
            realm,
            (status == 401).then_some("Bearer realm=\"DeviceJWT\"")
        );
    }
}

#[tokio::test]
async fn tokens_expire_to_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Arc::new(Keys::open(dir.path()).unwrap());
    let clock = Clock::manual(NOW_S * 1000);
    let access = Access::new(Arc::clone(&keys), clock.clone(), Arc::new(Check));
    let claims = Claims {
        exp: Some(NOW_S + 2),
        nbf: Some(NOW_S + 60),
        ..Claims::default()
    };
    let token = keys.sign(&claims).unwrap();
    assert!(
        access.claims(&token).is_ok(),
        "a small step back of the clock is forgiven"
    );
    clock.advance(1999);
    assert!(access.claims(&token).is_ok());
    clock.advance(1);
    assert_eq!(
        access.claims(&token),
        Err(ambidex_access::TokenError::Expired)
    );
    let future = keys
        .sign(&Claims {
            nbf: Some(NOW_S + 63),
            ..Claims::default()
        })
        .unwrap();
    assert_eq!(
        access.claims(&future),
        Err(ambidex_access::TokenError::Malformed)
    );
}
