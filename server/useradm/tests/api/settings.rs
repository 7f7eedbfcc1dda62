//! Settings and plans.

use super::*;

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
async fn settings_have_limits_and_entity_tags() {
    let world = World::new();
    world.user("t1", "a@b.c").await;
    world.user("t1", "b@b.c").await;
    let (token, other) = (world.login("a@b.c").await, world.login("b@b.c").await);
    let many = |n: usize| {
        let keys = (0..n).map(|n| (format!("k{n}"), json!(n)));
        Value::Object(keys.collect()).to_string()
    };
    for path in ["/settings", "/settings/me"] {
        let first = world.call("GET", path, &token, "").await;
        assert_eq!(first.text, "{}");
        assert!(!first.headers.contains_key("etag"));
        let put = async |body: &str, etag: Option<&str>| {
            let headers: Vec<_> = etag.map(|etag| ("if-match", etag)).into_iter().collect();
            world
                .call_with("POST", path, &token, &headers, body)
                .await
                .status
        };
        assert_eq!(
            put("{}", Some("\"nothing\"")).await,
            412,
            "there are none to match"
        );
        assert_eq!(put(r#"{"a":1}"#, None).await, 201);
        let answer = world.call("GET", path, &token, "").await;
        let etag = answer.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(put(r#"{"a":2}"#, Some("\"other\"")).await, 412);
        assert_eq!(put(r#"{"a":2}"#, Some(&etag)).await, 201);
        assert_eq!(put(r#"{"a":3}"#, Some(&etag)).await, 412, "changed since");
        assert_eq!(world.call("GET", path, &token, "").await.text, r#"{"a":2}"#);
        let answer = world.call("GET", path, &token, "").await;
        let bare = answer.headers["etag"]
            .to_str()
            .unwrap()
            .trim_matches('"')
            .to_owned();
        assert_eq!(put(r#"{"a":4}"#, Some(&bare)).await, 201, "without quotes");
        assert_eq!(put(r#"{"a":5}"#, Some("*")).await, 201);
        for (body, status) in [
            (many(1024), 201),
            (many(1025), 400),
            (json!({"k".repeat(128): 1}).to_string(), 201),
            (json!({"k".repeat(129): 1}).to_string(), 400),
            (json!({"k": "v".repeat(4096)}).to_string(), 201),
            (json!({"k": "v".repeat(4097)}).to_string(), 400),
            ("[]".to_owned(), 400),
        ] {
            assert_eq!(
                put(&body, None).await,
                status,
                "{path} {} bytes",
                body.len()
            );
        }
    }
    assert_ne!(world.call("GET", "/settings", &other, "").await.text, "{}");
    assert_eq!(
        world.call("GET", "/settings/me", &other, "").await.text,
        "{}",
        "own ones"
    );
}

#[tokio::test]
async fn plans_are_told() {
    let world = World::new();
    world.user("t2", "os@b.c").await;
    world.user("", "single@b.c").await;
    let os = world.login("os@b.c").await;
    let plans = world.call("GET", "/plans", &os, "").await.json();
    let names: Vec<_> = plans
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["os", "professional", "enterprise"]);
    let second = world
        .call("GET", "/plans?page=2&per_page=1", &os, "")
        .await
        .json();
    assert_eq!(second[0]["name"], "professional");
    assert_eq!(
        world.call("GET", "/plans?page=0", &os, "").await.status,
        400
    );
    let binding = world.call("GET", "/plan_binding", &os, "").await.json();
    assert_eq!(binding["plan"]["name"], "os");
    assert_eq!(binding["plan"]["features"]["rbac"], false);
    assert_eq!(binding["limits"], json!({"devices": 50}));
    let single = world.login("single@b.c").await;
    let binding = world.call("GET", "/plan_binding", &single, "").await.json();
    assert_eq!(
        (&binding["plan"]["name"], binding.get("limits")),
        (&json!("enterprise"), None)
    );
}
