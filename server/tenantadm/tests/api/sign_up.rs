//! Signing up, activating and removing (operations 077 to 081).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use ambidex_tenantadm::{Billing, Plan, Recaptcha, Settings, TenantadmError};
use serde_json::{Value, json};

use crate::rig::{DAY_MS, World, open};

const V1: &str = "v1/tenantadm/tenants";
const V2: &str = "v2/tenantadm/tenants";
const TRIAL: &str = "v2/tenantadm/tenants/trial";

fn asked(email: &str) -> Value {
    json!({"organization": "Acme", "email": email, "password": "correct horse", "g-recaptcha-response": "empty"})
}

fn form(email: &str, more: &str) -> String {
    format!(
        "organization=Acme+Inc.&email={email}&password=correct%20horse&g-recaptcha-response=empty{more}"
    )
}

#[tokio::test]
async fn version_1_takes_a_form_and_the_tenant_is_active() {
    let world = World::with(open());
    let body = form(
        "Root%2Bx%40acme.example",
        "&name=Joe&token=tok_visa&plan=professional",
    );
    assert_eq!(world.manage("POST", V1, "", body).await, (202, Value::Null));
    let all = world.tenantadm.all().await.unwrap();
    let tenant = world.show(&all[0].id).await;
    assert_eq!(
        (
            &tenant["name"],
            &tenant["status"],
            &tenant["plan"],
            &tenant["trial"]
        ),
        (
            &json!("Acme Inc."),
            &json!("active"),
            &json!("professional"),
            &json!(false)
        )
    );
    assert_eq!(
        world.told(),
        [
            format!("user {} root+x@acme.example", all[0].id),
            format!("limit {} 250", all[0].id)
        ]
    );
    assert_eq!(world.verify(&all[0].token).await.0, 200);
    let (_, _, users) = world
        .call("GET", "/users?name=root%2Bx@acme.example", "")
        .await;
    assert_eq!(users[0]["tenant_id"], all[0].id.as_str());
}

#[tokio::test]
async fn version_2_is_inactive_until_it_is_activated() {
    let world = World::with(open());
    let (status, short) = world.manage("POST", V2, "", asked("a@acme.example")).await;
    assert_eq!(status, 200);
    let id = short["id"].as_str().unwrap().to_owned();
    assert_eq!(short, json!({"id": id, "secret": ""}));
    let tenant = world.show(&id).await;
    assert_eq!(
        (&tenant["status"], &tenant["plan"]),
        (&json!("inactive"), &json!("os"))
    );
    let token = tenant["tenant_token"].as_str().unwrap();
    let (status, json) = world.verify(token).await;
    assert_eq!(
        (status, json["error"].as_str()),
        (401, Some("Account inactive"))
    );

    let path = format!("{V2}/{id}/status");
    for (path, body, status) in [
        (path.as_str(), json!({"status": "suspended"}), 400),
        (path.as_str(), json!({}), 400),
        (path.as_str(), json!([]), 400),
        (
            "v2/tenantadm/tenants/nobody/status",
            json!({"status": "active"}),
            404,
        ),
        (path.as_str(), json!({"status": "active"}), 202),
        (path.as_str(), json!({"status": "active"}), 202),
    ] {
        assert_eq!(
            world.manage("PUT", path, "", &body).await.0,
            status,
            "{path} {body}"
        );
    }
    assert_eq!(world.verify(token).await.0, 200);
    world
        .call(
            "PUT",
            &format!("/tenants/{id}/status"),
            json!({"status": "suspended"}),
        )
        .await;
    let again = world
        .manage("PUT", &path, "", json!({"status": "active"}))
        .await;
    assert_eq!(
        (again.0, again.1["error"].as_str()),
        (409, Some("the tenant was suspended"))
    );
    // The second way to send it.
    let (status, short) = world
        .manage("POST", V2, "", form("b%40acme.example", ""))
        .await;
    assert_eq!((status, short["secret"].as_str()), (200, Some("")));
}

#[tokio::test]
async fn a_trial_has_everything_until_it_ends() {
    let world = World::with(Settings {
        trial_days: 14,
        ..open()
    });
    let mut body = asked("a@acme.example");
    body["plan"] = json!("os");
    body["tos"] = json!(true);
    body["marketing"] = json!("maybe");
    assert_eq!(
        world.manage("POST", TRIAL, "", &body).await,
        (202, Value::Null)
    );
    let id = world.tenantadm.all().await.unwrap()[0].id.clone();
    let tenant = world.show(&id).await;
    assert_eq!(
        (&tenant["plan"], &tenant["trial"]),
        (&json!("enterprise"), &json!(true))
    );
    assert_eq!(tenant["trial_expiration"], "2021-02-15T10:00:00Z");
    assert!(
        tenant["addons"]
            .as_array()
            .unwrap()
            .iter()
            .all(|addon| addon["enabled"] == true)
    );
    let token = tenant["tenant_token"].as_str().unwrap().to_owned();
    world.told();

    world.clock.advance(14 * DAY_MS - 1);
    assert_eq!(world.tenantadm.round().await.unwrap(), 0);
    assert_eq!(world.verify(&token).await.0, 200);
    world.clock.advance(1);
    assert_eq!(
        world.verify(&token).await.0,
        401,
        "over before it was written down"
    );
    assert_eq!(world.tenantadm.round().await.unwrap(), 1);
    assert_eq!(world.told(), [format!("revoke {id}")]);
    assert_eq!(world.show(&id).await["status"], "suspended");
    assert_eq!(world.tenantadm.round().await.unwrap(), 0);
    // An operator who activates it means it.
    let path = format!("/tenants/{id}/status");
    assert_eq!(
        world
            .call("PUT", &path, json!({"status": "active"}))
            .await
            .0,
        200
    );
    assert_eq!(world.verify(&token).await.0, 200);
    assert_eq!(world.tenantadm.round().await.unwrap(), 0);
    assert_eq!(world.verify(&token).await.0, 200);
    // A longer trial ends as well.
    let longer = json!({"trial_expiration": "2021-03-01T00:00:00Z"});
    assert_eq!(
        world.call("PUT", &format!("/tenants/{id}"), longer).await.0,
        204
    );
    world.clock.advance(30 * DAY_MS);
    assert_eq!(world.verify(&token).await.0, 401);
    assert_eq!(world.tenantadm.round().await.unwrap(), 1);
}

#[tokio::test]
async fn addresses_are_unique_and_bodies_are_checked() {
    let world = World::with(open());
    for (n, path) in [V1, V2, TRIAL].into_iter().enumerate() {
        let ok = if path == V2 { 200 } else { 202 };
        let email = format!("u{n}@acme.example");
        assert_eq!(world.manage("POST", path, "", asked(&email)).await.0, ok);
        let (status, error) = world
            .manage("POST", path, "", asked(&email.to_uppercase()))
            .await;
        assert_eq!(status, 409, "{path}");
        assert_eq!(error["error"], "user with a given email already exists");
        let with = |key: &str, value: Value| {
            let mut body = asked("new@acme.example");
            body[key] = value;
            body.to_string()
        };
        for body in [
            with("organization", json!("")),
            with("organization", json!("Äcme")),
            with("organization", json!("x".repeat(257))),
            with("organization", json!(7)),
            with("email", json!("")),
            with("email", json!("nobody")),
            with("password", json!("short")),
            with("password", Value::Null),
            with("plan", json!("golden")),
            with("login", json!({"github": 7})),
            "{".to_owned(),
            String::new(),
            "organization=Acme".to_owned(),
        ] {
            assert_eq!(
                world.manage("POST", path, "", &body).await.0,
                400,
                "{path} {body}"
            );
        }
    }
    let mut other_login = asked("oauth@acme.example");
    other_login["password"] = Value::Null;
    other_login["login"] = json!({"github": "1234"});
    assert_eq!(world.manage("POST", TRIAL, "", &other_login).await.0, 202);
    let (_, _, users) = world.call("GET", "/users?login=github:1234", "").await;
    assert_eq!(users[0]["name"], "oauth@acme.example");
    assert_eq!(world.number_of_tenants().await, 4);
}

#[tokio::test]
async fn many_at_once_with_one_address_make_one_tenant() {
    let world = World::with(open());
    let call = async || {
        world
            .manage("POST", V1, "", asked("a@acme.example"))
            .await
            .0
    };
    let (a, b, c, d) = tokio::join!(call(), call(), call(), call());
    let mut answers = [a, b, c, d];
    answers.sort_unstable();
    assert_eq!(answers, [202, 409, 409, 409]);
    assert_eq!(world.number_of_tenants().await, 1);
}

#[tokio::test]
async fn nobody_signs_up_where_it_is_not_enabled() {
    let several = World::new();
    let single = World::with(Settings::default());
    for world in [several, single] {
        for path in [V1, V2, TRIAL] {
            let (status, error) = world
                .manage("POST", path, "", asked("a@acme.example"))
                .await;
            assert_eq!(status, 404, "{path}");
            assert_eq!(error["error"], "signing up is not enabled on this server");
        }
        assert_eq!(world.number_of_tenants().await, 0);
        assert_eq!(world.manage("GET", V1, "", "").await.0, 405);
        let status = "v2/tenantadm/tenants/nobody/status";
        assert_eq!(
            world
                .manage("PUT", status, "", json!({"status": "active"}))
                .await
                .0,
            404
        );
    }
}

#[tokio::test]
async fn only_inactive_tenants_can_be_removed() {
    let world = World::with(open());
    let (_, short) = world.manage("POST", V2, "", asked("a@acme.example")).await;
    let id = short["id"].as_str().unwrap().to_owned();
    let path = format!("{V2}/{id}");
    world.told();
    assert_eq!(
        world.manage("DELETE", &path, "", "").await,
        (204, Value::Null)
    );
    assert_eq!(
        world.told(),
        [format!("remove {id}"), format!("limit {id} 0")]
    );
    assert_eq!(
        world.call("GET", &format!("/tenants/{id}"), "").await.0,
        404
    );
    assert_eq!(world.manage("DELETE", &path, "", "").await.0, 405);
    // The address is free again.
    let (status, short) = world.manage("POST", V2, "", asked("a@acme.example")).await;
    assert_eq!(status, 200);
    let path = format!("{V2}/{}", short["id"].as_str().unwrap());
    let active = json!({"status": "active"});
    assert_eq!(
        world
            .manage("PUT", &format!("{path}/status"), "", active)
            .await
            .0,
        202
    );
    let (status, error) = world.manage("DELETE", &path, "", "").await;
    assert_eq!(status, 405);
    assert!(
        error["error"].as_str().unwrap().contains("only inactive"),
        "{error}"
    );
    assert_eq!(world.number_of_tenants().await, 1);
}

#[tokio::test]
async fn a_sign_up_survives_neighbours_that_are_down_and_a_restart() {
    let world = World::with(open());
    world.down(true);
    assert_eq!(
        world
            .manage("POST", V1, "", asked("a@acme.example"))
            .await
            .0,
        202
    );
    let id = world.tenantadm.all().await.unwrap()[0].id.clone();
    assert_eq!(world.told(), Vec::<String>::new());
    let world = world.restart(open());
    world.tenantadm.recover().await.unwrap();
    assert_eq!(world.told(), Vec::<String>::new(), "still down");
    world.down(false);
    world.clock.advance(60_000);
    world.tenantadm.round().await.unwrap();
    let wanted = [
        format!("user {id} a@acme.example"),
        format!("limit {id} 50"),
    ];
    assert_eq!(world.told(), wanted);
    world.tenantadm.round().await.unwrap();
    world.tenantadm.recover().await.unwrap();
    assert_eq!(world.told(), Vec::<String>::new(), "once is enough");
}

#[tokio::test]
async fn a_sign_up_whose_address_is_taken_meanwhile_is_undone() {
    let world = World::with(open());
    world.down(true);
    assert_eq!(
        world
            .manage("POST", V1, "", asked("a@acme.example"))
            .await
            .0,
        202
    );
    let taken = ("a@acme.example".to_owned(), "somebody".to_owned());
    world
        .neighbour
        .users
        .lock()
        .unwrap()
        .insert(taken.0, taken.1);
    world.down(false);
    world.clock.advance(60_000);
    world.tenantadm.round().await.unwrap();
    assert_eq!(world.number_of_tenants().await, 0);
    assert_eq!(
        world.neighbour.users.lock().unwrap()["a@acme.example"],
        "somebody"
    );
}

#[tokio::test]
async fn an_operator_creates_a_tenant_with_its_user() {
    let world = World::new();
    let create = async |name: &str, email: &str, password: &str| {
        world
            .tenantadm
            .create_with_user(name, Plan::Professional, email, password)
            .await
    };
    let tenant = create("Acme", "a@acme.example", "correct horse")
        .await
        .unwrap();
    assert_eq!(
        world.told(),
        [
            format!("user {} a@acme.example", tenant.id),
            format!("limit {} 250", tenant.id)
        ]
    );
    let twice = create("Acme", "a@acme.example", "correct horse").await;
    assert!(
        matches!(twice, Err(TenantadmError::Conflict(_))),
        "{twice:?}"
    );
    let short = create("Acme", "b@acme.example", "short").await;
    assert!(
        matches!(short, Err(TenantadmError::Invalid(_))),
        "{short:?}"
    );
    assert_eq!(world.number_of_tenants().await, 1);
}

#[tokio::test]
async fn where_the_operator_takes_money_a_plan_is_asked_for() {
    let world = World::with(Settings {
        billing: Billing::Manual,
        ..open()
    });
    let mut body = asked("a@acme.example");
    body["plan"] = json!("enterprise");
    assert_eq!(world.manage("POST", V1, "", &body).await.0, 202);
    let tenant = &world.tenantadm.all().await.unwrap()[0];
    assert_eq!(
        (tenant.plan, tenant.requested_plan),
        (Plan::Os, Some(Plan::Enterprise))
    );
    let path = format!("/tenants/{}", tenant.id);
    assert_eq!(
        world
            .call("PUT", &path, json!({"plan": "enterprise"}))
            .await
            .0,
        204
    );
    let tenant = &world.tenantadm.all().await.unwrap()[0];
    assert_eq!(
        (tenant.plan, tenant.requested_plan),
        (Plan::Enterprise, None),
        "granted"
    );
}

/// Answers one request after the other as the reCAPTCHA service does; `None` breaks the connection.
fn recaptcha(answers: Vec<Option<bool>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/siteverify", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut bodies = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            bodies.push(String::from_utf8(body).unwrap());
            if let Some(success) = answer {
                let json = format!("{{\"success\":{success}}}");
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    json.len()
                );
                let stream = reader.get_mut();
                stream
                    .write_all(format!("{head}{json}").as_bytes())
                    .unwrap();
            }
        }
        bodies
    });
    (url, thread)
}

#[tokio::test]
async fn a_configured_recaptcha_is_checked() {
    let (url, service) = recaptcha(vec![Some(false), Some(true), None]);
    let recaptcha = Recaptcha::new("a&secret", &url).unwrap();
    let world = World::with(Settings {
        recaptcha: Some(recaptcha),
        ..open()
    });
    let mut body = asked("a@acme.example");
    body["g-recaptcha-response"] = json!("re=sponse");
    let (status, error) = world.manage("POST", V1, "", &body).await;
    assert_eq!(
        (status, &error["error"]),
        (401, &json!("reCAPTCHA verification failed"))
    );
    let mut without = body.clone();
    without["g-recaptcha-response"] = Value::Null;
    assert_eq!(
        world.manage("POST", V1, "", &without).await.0,
        401,
        "not even asked"
    );
    assert_eq!(world.manage("POST", V1, "", &body).await.0, 202);
    body["email"] = json!("b@acme.example");
    let (status, error) = world.manage("POST", V1, "", &body).await;
    assert_eq!(
        (status, &error["error"]),
        (500, &json!("internal error")),
        "nobody could tell"
    );
    let bodies = service.join().unwrap();
    assert_eq!(bodies[0], "secret=a%26secret&response=re%3Dsponse");
    assert_eq!(world.number_of_tenants().await, 1);
}
