//! Login and API calls against a scripted server: rows A and P of the acceptance table.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use ambidex_agent::{Link, LinkErrorKind};
use ambidex_wire::deployments::{DeviceStatus, StatusReport};
use base64::Engine as _;
use support::{Device, Server, TOKEN, answer, answer_with, default_answer};

fn provides() -> BTreeMap<String, String> {
    [
        ("device_type", "test board"),
        ("artifact_name", "release/1"),
        ("rootfs-image.checksum", "abc"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect()
}

fn verify(pem: &str, body: &[u8], signature: &str) {
    use ed25519_dalek::{Verifier as _, pkcs8::DecodePublicKey as _};
    let signature = base64::engine::general_purpose::STANDARD
        .decode(signature)
        .unwrap();
    if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_pem(pem) {
        key.verify(
            body,
            &ed25519_dalek::Signature::from_slice(&signature).unwrap(),
        )
        .unwrap();
    } else if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_pem(pem) {
        key.verify(body, &p256::ecdsa::Signature::from_der(&signature).unwrap())
            .unwrap();
    } else {
        let key = rsa::RsaPublicKey::from_public_key_pem(pem).unwrap();
        let key = rsa::pkcs1v15::VerifyingKey::<sha2_signatures::Sha256>::new(key);
        key.verify(
            body,
            &rsa::pkcs1v15::Signature::try_from(signature.as_slice()).unwrap(),
        )
        .unwrap();
    }
}

/// A1, A3, A4, A6, A9, P9.
#[tokio::test]
async fn the_first_login_makes_a_key_and_signs_the_exact_body() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    device.script(
        "data/identity/mender-device-identity",
        "echo serial=7; echo mac=a; echo mac=b",
    );
    let link = Link::new(device.config());
    link.authorize().await.unwrap();

    let key = device.path("state/mender-agent.pem");
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let pem = std::fs::read_to_string(&key).unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{pem}");

    let request = &server.requests()[0];
    let body = request.json();
    assert_eq!(
        request.target,
        "/api/devices/v1/authentication/auth_requests"
    );
    assert_eq!(body["id_data"], r#"{"mac":["a","b"],"serial":"7"}"#);
    assert_eq!(body["tier"], "standard");
    assert!(body.get("tenant_token").is_none());
    assert_eq!(request.header("authorization"), Some("API_KEY"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert!(
        request
            .header("user-agent")
            .unwrap()
            .starts_with("Ambidex/")
    );
    verify(
        body["pubkey"].as_str().unwrap(),
        &request.body,
        request.header("x-men-signature").unwrap(),
    );

    assert!(!device.holds(TOKEN), "the token is on disk");
    // a restart uses the same key
    Link::new(device.config()).authorize().await.unwrap();
    assert_eq!(std::fs::read_to_string(&key).unwrap(), pem);
}

/// A2: keys of every type, in every usual form.
#[tokio::test]
async fn existing_keys_stay_in_use() {
    use ed25519_dalek::pkcs8::{EncodePrivateKey as _, spki::der::pem::LineEnding};
    use rsa::pkcs1::EncodeRsaPrivateKey as _;
    let server = Server::friendly(|_| None).await;
    let rng = &mut rand::rngs::OsRng;
    let p256_key = p256::SecretKey::random(rng);
    let rsa_key = rsa::RsaPrivateKey::new(rng, 2048).unwrap();
    let keys = [
        p256_key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        p256_key.to_sec1_pem(LineEnding::LF).unwrap().to_string(),
        rsa_key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        rsa_key.to_pkcs1_pem(LineEnding::LF).unwrap().to_string(),
    ];
    for (number, pem) in keys.iter().enumerate() {
        let device = Device::new(&[&server.url], "");
        device.write("state/mender-agent.pem", pem);
        Link::new(device.config()).authorize().await.unwrap();
        assert_eq!(
            &std::fs::read_to_string(device.path("state/mender-agent.pem")).unwrap(),
            pem
        );
        let mode = std::fs::metadata(device.path("state/mender-agent.pem"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "a loose mode is tightened");
        let request = &server.requests()[number];
        verify(
            request.json()["pubkey"].as_str().unwrap(),
            &request.body,
            request.header("x-men-signature").unwrap(),
        );
    }
}

/// A5.
#[tokio::test]
async fn without_an_identity_nothing_is_sent() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    device.script("data/identity/mender-device-identity", "echo mac=a; exit 1");
    let error = Link::new(device.config()).authorize().await.unwrap_err();
    assert!(
        error.to_string().contains("mender-device-identity"),
        "{error}"
    );
    assert!(server.requests().is_empty());
}

/// A6.
#[tokio::test]
async fn the_tenant_token_is_sent_when_there_is_one() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(
        &[&server.url],
        "tenant_token = \"tt\"\ndevice_tier = \"micro\"",
    );
    Link::new(device.config()).authorize().await.unwrap();
    let body = server.requests()[0].json();
    assert_eq!(
        (body["tenant_token"].as_str(), body["tier"].as_str()),
        (Some("tt"), Some("micro"))
    );
}

/// A7.
#[tokio::test]
async fn a_pending_device_is_told_apart_from_a_broken_server() {
    let server = Server::start(|_| {
        answer(
            401,
            r#"{"error":"dev auth: unauthorized","request_id":"r"}"#,
        )
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let link = Link::new(device.config());
    let error = link.authorize().await.unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Unauthorized);
    assert!(
        error.to_string().contains("is the device accepted"),
        "{error}"
    );
    assert!(!link.is_authorized());

    let gone = Device::new(&["http://127.0.0.1:1"], "");
    let error = Link::new(gone.config()).authorize().await.unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Transient { retry_after: None });
    assert!(
        error.to_string().contains("nothing listens there"),
        "{error}"
    );
}

/// A8.
#[tokio::test]
async fn a_refused_token_is_renewed_and_the_call_repeated_once() {
    let logins = AtomicUsize::new(0);
    let server = Server::friendly(move |request| {
        if request.target.ends_with("/auth_requests") {
            let number = logins.fetch_add(1, Ordering::SeqCst);
            return Some(answer(200, format!("token.{number}")));
        }
        let good = request.header("authorization") == Some("Bearer token.1");
        (!good).then(|| answer(401, ""))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let link = Link::new(device.config());
    link.authorize().await.unwrap();
    assert_eq!(link.next_deployment(&provides()).await.unwrap(), None);
    assert_eq!(link.logins(), 2);
    let targets: Vec<String> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets.len(), 4, "{targets:?}");

    // a server that refuses every token is asked once more, not for ever
    let server =
        Server::friendly(|r| (!r.target.ends_with("/auth_requests")).then(|| answer(401, "")))
            .await;
    let device = Device::new(&[&server.url], "");
    let link = Link::new(device.config());
    link.authorize().await.unwrap();
    let error = link.next_deployment(&provides()).await.unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Unauthorized);
    assert_eq!(server.requests_to("/next").len(), 2);
    assert_eq!(server.requests_to("/auth_requests").len(), 2);
}

/// A10.
#[tokio::test]
async fn servers_are_tried_in_their_order() {
    let refusing = Server::start(|_| answer(401, "")).await;
    let good = Server::friendly(|_| None).await;
    let never = Server::friendly(|_| None).await;
    let device = Device::new(
        &["http://127.0.0.1:1", &refusing.url, &good.url, &never.url],
        "",
    );
    let link = Link::new(device.config());
    assert_eq!(link.next_deployment(&provides()).await.unwrap(), None);
    assert_eq!(refusing.requests().len(), 1);
    assert_eq!(good.requests().len(), 2);
    assert!(never.requests().is_empty());
}

/// A15.
#[tokio::test]
async fn a_corrupt_key_is_never_replaced() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    for text in ["", "-----BEGIN PRIVATE KEY-----\nMC4CAQ", "garbage"] {
        device.write("state/mender-agent.pem", text);
        let error = Link::new(device.config()).authorize().await.unwrap_err();
        assert!(
            error.to_string().contains("mender-agent.pem")
                && error.to_string().contains("--forcebootstrap"),
            "{error}"
        );
        assert_eq!(
            std::fs::read_to_string(device.path("state/mender-agent.pem")).unwrap(),
            text
        );
    }
    assert!(server.requests().is_empty());
}

/// P3, P9.
#[tokio::test]
async fn a_check_tells_everything_the_device_provides() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    let link = Link::new(device.config());
    assert_eq!(link.next_deployment(&provides()).await.unwrap(), None);
    let request = &server.requests_to("/next")[0];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        (
            "POST",
            "/api/devices/v2/deployments/device/deployments/next"
        )
    );
    assert_eq!(
        request.json()["device_provides"],
        serde_json::to_value(provides()).unwrap()
    );
    assert_eq!(
        request.header("authorization").unwrap(),
        format!("Bearer {TOKEN}")
    );
}

/// P4.
#[tokio::test]
async fn an_old_server_is_asked_in_its_own_way() {
    let server = Server::friendly(|r| r.target.contains("/v2/").then(|| answer(404, ""))).await;
    let device = Device::new(&[&server.url], "");
    assert_eq!(
        Link::new(device.config())
            .next_deployment(&provides())
            .await
            .unwrap(),
        None
    );
    let request = &server.requests_to("/next")[1];
    assert_eq!(request.method, "GET");
    assert_eq!(
        request.target,
        "/api/devices/v1/deployments/device/deployments/next?artifact_name=release%2F1&device_type=test%20board"
    );
}

/// P5.
#[tokio::test]
async fn an_answer_that_is_no_deployment_is_worth_another_try() {
    for body in [
        "",
        "{}",
        "<html>",
        r#"{"id":"../../etc","artifact":{"source":{"uri":"http://h/"}}}"#,
    ] {
        let server =
            Server::friendly(move |r| r.target.contains("/next").then(|| answer(200, body))).await;
        let device = Device::new(&[&server.url], "");
        let error = Link::new(device.config())
            .next_deployment(&provides())
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            LinkErrorKind::Transient { retry_after: None },
            "{body}"
        );
    }
    let good = r#"{"id":"d-1","artifact":{"artifact_name":"r2","source":{"uri":"http://h/a","expire":"x"},"device_types_compatible":["test-board"]},"new":1}"#;
    let server =
        Server::friendly(move |r| r.target.contains("/next").then(|| answer(200, good))).await;
    let device = Device::new(&[&server.url], "");
    let found = Link::new(device.config())
        .next_deployment(&provides())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.id.as_str(), found.artifact.source.uri.as_str()),
        ("d-1", "http://h/a")
    );
}

/// P6.
#[tokio::test]
async fn a_busy_server_says_how_long_to_wait() {
    let server = Server::friendly(|r| {
        r.target
            .contains("/next")
            .then(|| answer_with(429, &[("Retry-After", "17")], ""))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let error = Link::new(device.config())
        .next_deployment(&provides())
        .await
        .unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn reports_go_to_their_deployment_and_an_abort_is_seen() {
    let server = Server::friendly(|r| {
        r.target
            .contains("/aborted/")
            .then(|| answer(409, r#"{"error":"aborted"}"#))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let link = Link::new(device.config());
    let report = StatusReport {
        status: DeviceStatus::Downloading,
        substate: None,
    };
    link.report_status("d-1", &report).await.unwrap();
    let request = &server.requests_to("/d-1/status")[0];
    assert_eq!(
        (request.method.as_str(), request.json()),
        ("PUT", serde_json::json!({"status": "downloading"}))
    );
    let error = link.report_status("aborted", &report).await.unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Aborted);
}

/// W30: redirects are followed, the token stays with the host it was for.
#[tokio::test]
async fn a_redirect_does_not_leak_the_token() {
    let other = Server::friendly(|_| None).await;
    let target = other.url.clone();
    let server = Server::friendly(move |r| {
        r.target
            .contains("/next")
            .then(|| answer_with(307, &[("Location", &format!("{target}{}", r.target))], ""))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    assert_eq!(
        Link::new(device.config())
            .next_deployment(&provides())
            .await
            .unwrap(),
        None
    );
    let moved = &other.requests()[0];
    assert_eq!(
        moved.json()["device_provides"]["artifact_name"],
        "release/1"
    );
    assert_eq!(moved.header("authorization"), None);
}

#[tokio::test]
async fn a_silent_server_does_not_hold_the_agent() {
    let server = Server::start(|r| match r.target.as_str() {
        t if t.ends_with("/auth_requests") => default_answer(r),
        _ => support::stall(200, &[], "xxxx", 1),
    })
    .await;
    let device = Device::new(&[&server.url], "");
    device.write(
        "conf/agent.toml",
        &format!(
            "server_url = {:?}\nrequest_timeout_seconds = 0.3\n",
            server.url
        ),
    );
    let link = Link::new(device.config());
    let error = tokio::time::timeout(Duration::from_secs(5), link.next_deployment(&provides()))
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}
