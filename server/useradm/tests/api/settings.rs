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
