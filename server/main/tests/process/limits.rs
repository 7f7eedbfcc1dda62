//! What tenants may do: quotas, bursts, plans, tenant tokens (acceptance rows T5 to T9) over the real
//! server.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::instance::{Answer, Instance, PASSWORD, http, send, verb, verb_ok};

const ME: &str = "/api/management/v1/useradm/users/me";
const SEARCH: &str = "/api/management/v2/inventory/filters/search";
const FILTERS: &str = "/api/management/v2/inventory/filters";
const AUTH: &str = "/api/devices/v1/authentication/auth_requests";
const SIGN_UP: &str = "/api/management/v1/tenantadm/tenants";
const ATTRIBUTES: &str = "/api/devices/v1/inventory/device/attributes";

/// A tenant and the token of its user.
fn tenant(server: &Instance, name: &str, plan: &str) -> (String, String) {
    let email = format!("{name}@example.com");
    let arguments = [
        "tenant",
        "create",
        "--name",
        name,
        "--email",
        &email,
        "--password",
        PASSWORD,
        "--plan",
        plan,
    ];
    let id = verb_ok(&server.data_dir, &arguments);
    let login = server.login(&email, PASSWORD);
    assert_eq!(login.status, 200, "{}", login.body);
    (id, login.body)
}

fn tenant_token(server: &Instance, id: &str) -> String {
    let shown = verb_ok(&server.data_dir, &["tenant", "show", id]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["tenant_token"].as_str().unwrap().to_owned()
}

fn internal(server: &Instance, method: &str, path: &str, body: &Value) -> Answer {
    let path = format!("/api/internal/v1/{path}");
    http(server.internal, method, &path, "", &body.to_string()).unwrap()
}

fn retry_after(answer: &Answer) -> u64 {
    let line = answer
        .head
        .lines()
        .find(|line| line.starts_with("retry-after: "));
    let seconds = line.unwrap_or_else(|| panic!("no Retry-After: {}", answer.head));
    seconds["retry-after: ".len()..].trim().parse().unwrap()
}

/// A device with its own key.
struct Device {
    key: ed25519_dalek::SigningKey,
    mac: String,
}

impl Device {
    fn new(mac: &str) -> Device {
        Device {
            key: ed25519_dalek::SigningKey::generate(&mut rand::rngs::OsRng),
            mac: mac.to_owned(),
        }
    }

    fn ask(&self, to: SocketAddr, tenant_token: Option<&str>) -> Answer {
        use ed25519_dalek::Signer as _;
        use ed25519_dalek::pkcs8::EncodePublicKey as _;
        use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
        let key = self
            .key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let mut body = json!({"id_data": json!({"mac": self.mac}).to_string(), "pubkey": key});
        if let Some(token) = tenant_token {
            body["tenant_token"] = token.into();
        }
        let body = body.to_string();
        let signature = STANDARD.encode(self.key.sign(body.as_bytes()).to_bytes());
        let head = format!("X-MEN-Signature: {signature}\r\n");
        send(to, "POST", AUTH, &head, &body).unwrap()
    }

    /// The token of the device, accepted by this user.
    fn accepted(&self, server: &Instance, user: &str, tenant_token: Option<&str>) -> String {
        assert_eq!(self.ask(server.public, tenant_token).status, 401);
        let path = "/api/management/v2/devauth/devices?status=pending";
        let devices = server.call("GET", path, user, "").json();
        let device = &devices[0];
        let path = format!(
            "/api/management/v2/devauth/devices/{}/auth/{}/status",
            device["id"].as_str().unwrap(),
            device["auth_sets"][0]["id"].as_str().unwrap()
        );
        let accepted = server.call("PUT", &path, user, r#"{"status":"accepted"}"#);
        assert_eq!(accepted.status, 204, "{}", accepted.body);
        let answer = self.ask(server.public, tenant_token);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }
}

#[test]
fn quotas_are_counted_by_user_and_reset_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &["--multi-tenant"]);
    let (one, token) = tenant(&server, "one", "enterprise");
    let (_, other) = tenant(&server, "two", "enterprise");
    let path = format!("tenantadm/tenants/{one}");
    // A window that does not end while the test runs.
    let quota = |calls: u64| json!({"api_limits": {"management": {"quota": {"max_calls": calls, "interval_sec": 31_536_000}}}});
    assert_eq!(internal(&server, "PUT", &path, &quota(2)).status, 204);
    let statuses: Vec<u16> = (0..3)
        .map(|_| server.call("GET", ME, &token, "").status)
        .collect();
    assert_eq!(statuses, [200, 200, 429]);
    let refused = server.call("GET", "/api/management/v1/useradm/users/nobody", &token, "");
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (429, &json!("too many requests"))
    );
    assert!(retry_after(&refused) > 0);
    assert!(refused.json()["request_id"].is_string());
    assert_eq!(
        server.call("GET", ME, &other, "").status,
        200,
        "another tenant"
    );
    assert_eq!(
        server.call("GET", ME, "nonsense", "").status,
        401,
        "not counted for anybody"
    );
    // The gateway's question is counted as well.
    let head = format!(
        "Authorization: Bearer {token}\r\nX-Original-URI: {ME}\r\nX-Original-Method: GET\r\n"
    );
    let verify = "/api/internal/v1/useradm/auth/verify";
    let answer = send(server.internal, "POST", verify, &head, "").unwrap();
    assert_eq!(answer.status, 429);
    assert!(retry_after(&answer) > 0);
    assert_eq!(internal(&server, "PUT", &path, &quota(0)).status, 204);
    assert_eq!(server.call("GET", ME, &token, "").status, 200, "no limit");
}

#[test]
fn bursts_are_counted_by_device_method_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &["--multi-tenant"]);
    let (one, user) = tenant(&server, "one", "enterprise");
    let own = tenant_token(&server, &one);
    let rule = format!("PATCH {ATTRIBUTES} 31536000");
    let arguments = [
        "tenant",
        "set-limits",
        &one,
        "--device-burst",
        &rule,
        "--devices",
        "2",
    ];
    verb_ok(&server.data_dir, &arguments);
    // The running server sees a change of another process within two seconds.
    let devices = [Device::new("1"), Device::new("2")];
    let tokens = devices
        .each_ref()
        .map(|device| device.accepted(&server, &user, Some(&own)));
    let body = r#"[{"name":"a","value":"b"}]"#;
    let patch = |token: &str| server.call("PATCH", ATTRIBUTES, token, body).status;
    let limited = crate::instance::wait_for(|| (patch(&tokens[0]) == 429).then_some(()));
    assert!(limited.is_some(), "the rule is never seen");
    assert_eq!(
        server.call("PUT", ATTRIBUTES, &tokens[0], body).status,
        200,
        "another method"
    );
    assert_eq!(
        (patch(&tokens[1]), patch(&tokens[1])),
        (200, 429),
        "another device"
    );
    let head = format!(
        "Authorization: Bearer {}\r\nX-Original-URI: {ATTRIBUTES}?x=1\r\nX-Original-Method: PATCH\r\n",
        tokens[1]
    );
    let verify = "/api/internal/v1/devauth/tokens/verify";
    assert_eq!(
        send(server.internal, "POST", verify, &head, "")
            .unwrap()
            .status,
        429
    );
    assert_eq!(Device::new("3").ask(server.public, Some(&own)).status, 401);
    verb_ok(
        &server.data_dir,
        &["tenant", "set-limits", &one, "--device-burst", "none"],
    );
    let free = crate::instance::wait_for(|| (patch(&tokens[1]) == 200).then_some(()));
    assert!(free.is_some(), "the rule is never taken away");
}

#[test]
fn devices_name_their_tenant_or_come_under_the_default_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &["--multi-tenant"]);
    let (one, user) = tenant(&server, "one", "enterprise");
    let (_, other) = tenant(&server, "two", "enterprise");
    let own = tenant_token(&server, &one);
    let device = Device::new("1");
    let refused = device.ask(server.public, None);
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (401, &json!("tenant token missing"))
    );
    let refused = device.ask(server.public, Some("nonsense"));
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (401, &json!("tenant_token is invalid"))
    );
    let devices = "/api/management/v2/devauth/devices";
    assert_eq!(
        server.call("GET", devices, &user, "").json(),
        json!([]),
        "nothing is stored"
    );
    let token = device.accepted(&server, &user, Some(&own));
    assert_eq!(server.call("GET", devices, &other, "").json(), json!([]));
    let id = server.call("GET", devices, &user, "").json()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        server
            .call("GET", &format!("{devices}/{id}"), &other, "")
            .status,
        404
    );

    // Suspension bars devices and gives the reason.
    let next = "/api/devices/v1/deployments/device/deployments/next?device_type=x&artifact_name=y";
    assert_eq!(server.call("GET", next, &token, "").status, 204);
    verb_ok(&server.data_dir, &["tenant", "suspend", &one]);
    assert_eq!(server.call("GET", next, &token, "").status, 401);
    let refused = device.ask(server.public, Some(&own));
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (401, &json!("Account suspended"))
    );
    let login = server.login("one@example.com", PASSWORD);
    assert_eq!(
        (login.status, &login.json()["error"]),
        (401, &json!("tenant account suspended"))
    );
    verb_ok(&server.data_dir, &["tenant", "activate", &one]);
    assert_eq!(server.login("one@example.com", PASSWORD).status, 200);
    let again = device.ask(server.public, Some(&own));
    assert_eq!(again.status, 200, "accepted as before: {}", again.body);
    assert_eq!(server.call("GET", next, &again.body, "").status, 204);

    // The same data under a server with a default token.
    let default = ["--multi-tenant", "--default-tenant-token", &own];
    assert_eq!(server.stop(), Some(0));
    let server = Instance::start(dir.path(), &default);
    assert_eq!(device.ask(server.public, None).status, 200);
    assert_eq!(device.ask(server.public, Some("nonsense")).status, 200);
    let single = ["--default-tenant-token", &own];
    let data = tempfile::tempdir().unwrap();
    let output = verb(data.path(), &[&["serve"], &single[..]].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && errors.contains("--multi-tenant"),
        "{errors}"
    );
    assert!(!errors.contains(&own));
}

#[test]
fn plans_open_features_and_their_change_ends_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &["--multi-tenant"]);
    let (os, token) = tenant(&server, "os", "os");
    let (_, professional) = tenant(&server, "professional", "professional");
    let (_, enterprise) = tenant(&server, "enterprise", "enterprise");
    for (token, search, filters) in [
        (&token, 403, 403),
        (&professional, 200, 403),
        (&enterprise, 200, 200),
    ] {
        let answer = server.call("POST", SEARCH, token, "{}");
        assert_eq!(answer.status, search);
        if search == 403 {
            assert_eq!(
                answer.json()["error"],
                "Feature not available in your Plan."
            );
        }
        assert_eq!(server.call("GET", FILTERS, token, "").status, filters);
    }
    let limit = "/api/management/v2/devauth/limits/max_devices";
    assert_eq!(server.call("GET", limit, &token, "").json()["limit"], 50);
    verb_ok(
        &server.data_dir,
        &[
            "tenant",
            "set-plan",
            &os,
            "enterprise",
            "--addons",
            "monitor",
        ],
    );
    assert_eq!(
        server.call("GET", limit, &token, "").status,
        401,
        "its claims are old"
    );
    let token = server.login("os@example.com", PASSWORD).body;
    assert_eq!(server.call("GET", limit, &token, "").json()["limit"], 0);
    assert_eq!(server.call("GET", FILTERS, &token, "").status, 200);
    let own = server
        .call(
            "GET",
            "/api/management/v1/tenantadm/user/tenant",
            &token,
            "",
        )
        .json();
    let monitor = own["addons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|addon| addon["name"] == "monitor");
    assert_eq!(
        (own["plan"].as_str(), &monitor.unwrap()["enabled"]),
        (Some("enterprise"), &json!(true))
    );
    for bad in [
        &["tenant", "set-plan", &os, "golden"][..],
        &["tenant", "set-plan", "nobody", "os"],
        &["tenant", "set-limits", &os],
        &["tenant", "set-limits", &os, "--device-quota", "7"],
        &["tenant", "suspend", "nobody"],
    ] {
        assert!(!verb(&server.data_dir, bad).status.success(), "{bad:?}");
    }
}

#[test]
fn addresses_are_limited_where_no_token_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let options = [
        "--multi-tenant",
        "--self-sign-up",
        "--rate-limit-per-address",
        "5",
        "--trusted-proxy",
        "127.0.0.0/8",
    ];
    let server = Instance::start(dir.path(), &options);
    let call = |client: &str, path: &str, body: &str| {
        let head = format!("X-Forwarded-For: {client}\r\n");
        send(server.public, "POST", path, &head, body).unwrap()
    };
    let login = "/api/management/v1/useradm/auth/login";
    let refused = crate::instance::wait_for(|| {
        let answer = call("203.0.113.1", login, "");
        (answer.status == 429).then_some(answer)
    });
    let wait = retry_after(&refused.unwrap());
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(
        call("203.0.113.2", login, "").status,
        401,
        "another address"
    );
    let body = "organization=Acme&email=root%40acme.example&password=correct+horse";
    assert_eq!(call("203.0.113.3", SIGN_UP, body).status, 202);
    let token = server.login("root@acme.example", "correct horse").body;
    for _ in 0..10 {
        assert_eq!(
            server.call("GET", ME, &token, "").status,
            200,
            "with a token"
        );
    }
}

#[test]
fn whoever_signs_up_logs_in_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &["--multi-tenant", "--self-sign-up"]);
    let trial = "/api/management/v2/tenantadm/tenants/trial";
    let body =
        json!({"organization": "Acme", "email": "Root@acme.example", "password": "correct horse"});
    assert_eq!(
        server.call("POST", trial, "", &body.to_string()).status,
        202
    );
    assert_eq!(
        server.call("POST", trial, "", &body.to_string()).status,
        409
    );
    let short = json!({"organization": "Acme", "email": "b@acme.example", "password": "short"});
    assert_eq!(
        server.call("POST", trial, "", &short.to_string()).status,
        400
    );
    let token = server.login("root@acme.example", "correct horse").body;
    let own = server
        .call(
            "GET",
            "/api/management/v1/tenantadm/user/tenant",
            &token,
            "",
        )
        .json();
    assert_eq!(
        (own["plan"].as_str(), own["trial"].as_bool()),
        (Some("enterprise"), Some(true))
    );
    let cancel = format!(
        "/api/management/v2/tenantadm/tenants/{}/cancel",
        own["id"].as_str().unwrap()
    );
    let reason = r#"{"reason":"enough"}"#;
    assert_eq!(server.call("POST", &cancel, &token, reason).status, 202);
    assert_eq!(server.call("GET", ME, &token, "").status, 401);
    assert_eq!(
        server.login("root@acme.example", "correct horse").status,
        401
    );

    let v2 = "/api/management/v2/tenantadm/tenants";
    let body =
        json!({"organization": "Other", "email": "c@acme.example", "password": "correct horse"});
    let short = server.call("POST", v2, "", &body.to_string()).json();
    let path = format!("{v2}/{}", short["id"].as_str().unwrap());
    assert_eq!(
        server.login("c@acme.example", "correct horse").status,
        401,
        "not yet"
    );
    assert_eq!(
        server
            .call(
                "PUT",
                &format!("{path}/status"),
                "",
                r#"{"status":"active"}"#
            )
            .status,
        202
    );
    assert_eq!(server.login("c@acme.example", "correct horse").status, 200);
    assert_eq!(server.call("DELETE", &path, "", "").status, 405);
    let body =
        json!({"organization": "Gone", "email": "d@acme.example", "password": "correct horse"});
    let short = server.call("POST", v2, "", &body.to_string()).json();
    let path = format!("{v2}/{}", short["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &path, "", "").status, 204);
    assert_eq!(
        server.call("POST", v2, "", &body.to_string()).status,
        200,
        "the address is free"
    );
}
