//! Sessions: login, logout, verification.

use super::*;

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
            "roles": ["RBAC_ROLE_PERMIT_ALL"], "verified": false, "tfa_status": "disabled",
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
        ("GET", "/settings/me"),
        ("POST", "/settings/me"),
        ("GET", "/settings/tokens"),
        ("POST", "/settings/tokens"),
        ("DELETE", "/settings/tokens/x"),
        ("GET", "/roles"),
        ("POST", "/roles"),
        ("GET", "/roles/x"),
        ("PUT", "/roles/x"),
        ("DELETE", "/roles/x"),
        ("GET", "/2faqr"),
        ("PUT", "/2faverify"),
        ("POST", "/users/me/2fa/enable"),
        ("POST", "/users/me/2fa/disable"),
        ("GET", "/plans"),
        ("GET", "/plan_binding"),
        ("GET", "/api/management/v2/useradm/roles"),
        ("POST", "/api/management/v2/useradm/roles"),
        ("GET", "/api/management/v2/useradm/roles/x"),
        ("PUT", "/api/management/v2/useradm/roles/x"),
        ("DELETE", "/api/management/v2/useradm/roles/x"),
        ("GET", "/api/management/v2/useradm/permission_sets"),
        ("PUT", "/api/management/v2/useradm/users/me"),
    ] {
        for (header, text) in [
            (None, "Authorization not present in header"),
            (Some("Bearer"), "malformed Authorization header"),
            (Some("Basic abc"), "unknown Authorization method Basic"),
            (Some("Bearer nonsense"), "unauthorized"),
            (Some(&*format!("Bearer {device}")), "unauthorized"),
        ] {
            let headers: Vec<_> = header
                .map(|value| ("authorization", value))
                .into_iter()
                .collect();
            let answer = world.call_with(method, path, "", &headers, "").await;
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
async fn guessing_is_slowed_down_for_the_guesser_only() {
    let world = World::new();
    world.user("", "a@b.c").await;
    let attempt = async |address: &str, email: &str, password: &str| {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{email}:{password}"));
        let request = Request::post(format!("{BASE}/auth/login"))
            .header("authorization", format!("Basic {basic}"))
            .header("x-forwarded-for", address)
            .body(Body::empty())
            .unwrap();
        world.send(&world.public, request).await
    };
    for _ in 0..10 {
        assert_eq!(
            attempt("192.0.2.1", "A@b.c", "wrong password").await.status,
            401
        );
    }
    let answer = attempt("192.0.2.1", "a@b.c", PASSWORD).await;
    assert_eq!(answer.status, 429, "even with the right password");
    assert_eq!(answer.headers["retry-after"], "30");
    assert_eq!(
        attempt("192.0.2.1", "x@b.c", "wrong").await.status,
        401,
        "another user"
    );
    assert_eq!(
        attempt("192.0.2.2", "a@b.c", PASSWORD).await.status,
        200,
        "from elsewhere"
    );
    world.clock.advance(30_000);
    assert_eq!(attempt("192.0.2.1", "a@b.c", PASSWORD).await.status, 200);
    assert_eq!(
        attempt("192.0.2.1", "a@b.c", "wrong").await.status,
        401,
        "forgiven"
    );
}
