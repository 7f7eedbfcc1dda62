//! First start, restart, listeners, TLS.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::instance::{EMAIL, Instance, PASSWORD, http, verb_ok};

const SETTINGS: &str = "/api/management/v1/useradm/settings";
const ME: &str = "/api/management/v1/useradm/users/me";

#[test]
fn data_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &[]);
    assert!(
        server
            .log()
            .contains("there is no user yet; create one with: ambidex-server user create")
    );
    assert_eq!(server.login(EMAIL, PASSWORD).status, 401);
    // The verbs work beside the running server.
    let file = dir.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\nsecond line")).unwrap();
    let file = file.to_str().unwrap();
    let id = verb_ok(
        &server.data_dir,
        &["user", "create", "--email", EMAIL, "--password-file", file],
    );
    let token = server.token();
    assert_eq!(server.call("GET", ME, &token, "").json()["id"], id.as_str());
    assert_eq!(
        server
            .call("POST", SETTINGS, &token, r#"{"kept":true}"#)
            .status,
        201
    );
    let list = verb_ok(&server.data_dir, &["user", "list"]);
    assert!(
        list.starts_with(&format!("{id}\t{EMAIL}\t-\tlast login 20")),
        "{list}"
    );

    let data = server.data_dir.clone();
    for (name, mode) in [
        ("", 0o700),
        ("server.db", 0o600),
        ("keys", 0o700),
        ("keys/token-signing.pem", 0o600),
        ("keys/download-links.key", 0o600),
    ] {
        let found = std::fs::metadata(data.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    let log = server.log();
    assert_eq!(server.stop(), Some(0));
    assert!(!data.join("listen.json").exists());
    for secret in [PASSWORD, &token] {
        assert!(!log.contains(secret), "a secret in the log");
    }

    let server = Instance::start(dir.path(), &[]);
    assert_eq!(
        server.call("GET", SETTINGS, &token, "").body,
        r#"{"kept":true}"#,
        "and the token still counts"
    );
    let new = [
        "user",
        "set-password",
        "--email",
        EMAIL,
        "--password",
        "another password",
    ];
    verb_ok(&server.data_dir, &new);
    assert_eq!(
        server.call("GET", SETTINGS, &token, "").status,
        401,
        "its sessions ended"
    );
    assert_eq!(server.login(EMAIL, "another password").status, 200);
}

#[test]
fn the_listeners_serve_what_is_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    for service in [
        "devauth",
        "inventory",
        "deployments",
        "useradm",
        "tenantadm",
        "auditlogs",
    ] {
        for what in ["alive", "health"] {
            let path = format!("/api/internal/v1/{service}/{what}");
            assert_eq!(
                http(server.internal, "GET", &path, "", "").unwrap().status,
                204,
                "{path}"
            );
            assert_eq!(
                http(server.public, "GET", &path, "", "").unwrap().status,
                404,
                "{path}"
            );
        }
    }
    for path in [
        ME,
        "/api/management/v2/devauth/devices",
        "/api/management/v1/inventory/devices",
        "/api/management/v1/deployments/artifacts",
    ] {
        assert_eq!(
            http(server.internal, "GET", path, "", "").unwrap().status,
            404,
            "{path}"
        );
        assert_eq!(
            http(server.public, "GET", path, "", "").unwrap().status,
            401,
            "{path}"
        );
        assert_eq!(
            server.call("GET", path, &server.token(), "").status,
            200,
            "{path}"
        );
    }
    let answer = http(server.public, "GET", "/", "", "").unwrap();
    assert_eq!(answer.status, 404);
    assert!(answer.head.contains("x-men-requestid: "), "{}", answer.head);
}

#[test]
fn tls_is_served_with_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out",
            "cert.pem",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success());
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let server = Instance::start(
        dir.path(),
        &[
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ],
    );
    assert!(
        server.log().contains("serving https://127.0.0.1:"),
        "{}",
        server.log()
    );
    verb_ok(
        &server.data_dir,
        &["user", "create", "--email", EMAIL, "--password", PASSWORD],
    );
    for version in ["1.2", "1.3"] {
        let url = format!(
            "https://localhost:{}/api/management/v1/useradm/auth/login",
            server.public.port()
        );
        let got = Command::new("curl")
            .args([
                "-sSi",
                "--max-time",
                "20",
                "-X",
                "POST",
                "--tls-max",
                version,
                "--cacert",
            ])
            .arg(&cert)
            .args(["-u", &format!("{EMAIL}:{PASSWORD}"), &url])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&got.stdout);
        assert!(text.starts_with("HTTP/1.1 200"), "TLS {version}: {got:?}");
        assert!(text.contains("strict-transport-security"), "{text}");
    }
    let internal = http(
        server.internal,
        "GET",
        "/api/internal/v1/useradm/health",
        "",
        "",
    )
    .unwrap();
    assert_eq!(internal.status, 204, "the internal listener stays plain");
}
