//! Users: create, list, change, delete; on behalf of neighbours too.

use super::*;

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
        (
            new("some.name@b.c", "some.name1"),
            422,
            "password is too similar to the email",
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
            "role X does not exist",
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

#[tokio::test]
async fn roles_and_passwords_of_users() {
    let world = World::new();
    let admin = world.with_roles("t1", "admin@b.c", &[]).await;
    world
        .with_roles("t1", "user@b.c", &["RBAC_ROLE_OBSERVER"])
        .await;
    let show = async || {
        let list = world
            .call("GET", "/users?email=user@b.c", &admin, "")
            .await
            .json();
        list[0].clone()
    };
    let path = format!("/users/{}", show().await["id"].as_str().unwrap());
    assert_eq!(show().await["roles"], json!(["RBAC_ROLE_OBSERVER"]));
    let put = async |body: Value| world.call("PUT", &path, &admin, body).await.status;
    assert_eq!(
        put(json!({"roles": ["RBAC_ROLE_CI", "RBAC_ROLE_OBSERVER", "RBAC_ROLE_CI"]})).await,
        204
    );
    assert_eq!(
        show().await["roles"],
        json!(["RBAC_ROLE_CI", "RBAC_ROLE_OBSERVER"])
    );
    assert_eq!(put(json!({"roles": ["NOWHERE"]})).await, 422);
    let many: Vec<String> = (0..33).map(|n| format!("R{n}")).collect();
    assert_eq!(put(json!({"roles": many})).await, 422);

    // The present password is checked where it is told.
    let token = world.login("user@b.c").await;
    let me = async |version: &str, body: Value| {
        let path = format!("/api/management/{version}/useradm/users/me");
        let answer = world.call("PUT", &path, &token, body).await;
        (
            answer.status,
            answer.text.contains("current password mismatch"),
        )
    };
    let other = "another password";
    assert_eq!(me("v2", json!({"password": other})).await, (422, true));
    let wrong = json!({"password": other, "current_password": "wrong"});
    assert_eq!(me("v2", wrong.clone()).await, (422, true));
    assert_eq!(me("v1", wrong).await, (422, true));
    assert_eq!(me("v2", json!({})).await, (400, false));
    let right = json!({"password": other, "current_password": PASSWORD});
    assert_eq!(me("v2", right).await, (204, false));
    assert_eq!(world.try_login("user@b.c", other, "").await.status, 200);
    assert_eq!(
        me("v1", json!({"password": PASSWORD})).await,
        (204, false),
        "not asked for"
    );
    let short = json!({"password": "short", "current_password": PASSWORD});
    assert_eq!(me("v2", short).await.0, 422);
}

#[tokio::test]
async fn changes_are_recorded_with_who_made_them() {
    let world = World::new();
    let admin_id = world.user("t1", "admin@b.c").await;
    let admin = world.login("admin@b.c").await;
    let new = json!({"email": "new@b.c", "password": PASSWORD});
    let created = world.call("POST", "/users", &admin, new).await;
    let id = created.headers["location"].to_str().unwrap()[6..].to_owned();
    let path = format!("/users/{id}");
    world.clock.advance(1000);
    let change = json!({"roles": ["RBAC_ROLE_CI"], "password": "another password"});
    assert_eq!(world.call("PUT", &path, &admin, change).await.status, 204);
    world.clock.advance(1000);
    assert_eq!(world.call("DELETE", &path, &admin, "").await.status, 204);
    assert_eq!(
        world.call("DELETE", &path, &admin, "").await.status,
        204,
        "nothing to record"
    );
    assert_eq!(
        world
            .call("PUT", &path, &admin, json!({"roles": []}))
            .await
            .status,
        404
    );
    let events = world.events().await;
    let actions: Vec<_> = events
        .iter()
        .map(|e| e["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["create", "update", "delete"]);
    for event in &events {
        assert_eq!(
            event["actor"],
            json!({"id": admin_id, "type": "user", "email": "admin@b.c"})
        );
        let object = json!({"id": id, "type": "user", "user": {"email": "new@b.c"}});
        assert_eq!(event["object"], object);
    }
    let change = events[1]["change"].as_str().unwrap();
    assert!(
        change.starts_with("Updated user new@b.c:\nDiff:\n--- Original\n+++ Current\n@@ "),
        "{change}"
    );
    assert!(
        change.contains("-    \"RBAC_ROLE_PERMIT_ALL\"\n+    \"RBAC_ROLE_CI\"\n"),
        "{change}"
    );
    assert!(!change.contains("another password"), "{change}");
}
