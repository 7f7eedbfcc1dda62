//! The login of the program itself: what of the A rows of the acceptance table only a process shows.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use support::{
    Device, Server, TOKEN,
    daemon::{Daemon, command, log_of, verb},
};

/// Runs a verb that talks to the server, which answers on this thread.
async fn ended(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Waits for words in the daemon's log.
async fn logged(device: &Device, words: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !log_of(device).contains(words) {
        assert!(
            Instant::now() < limit,
            "{words:?} is not in\n{}",
            log_of(device)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a1_the_key_that_is_made_is_ed25519_in_pkcs8() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    assert!(
        ended(command(&device, &["bootstrap"]))
            .await
            .status
            .success()
    );
    let pem = std::fs::read_to_string(device.path("state/mender-agent.pem")).unwrap();
    let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).unwrap();
    let told = server.requests()[0].json();
    let told = ed25519_dalek::VerifyingKey::from_public_key_pem(told["pubkey"].as_str().unwrap());
    assert_eq!(told.unwrap(), key.verifying_key());
}

#[tokio::test]
async fn a5_an_identity_script_that_fails_or_hangs_sends_nothing() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    let script = |body: &str| device.script("data/identity/mender-device-identity", body);
    script("echo mac=a; exit 1");
    let daemon = Daemon::start(&device);
    logged(&device, "failed (exit code 1)").await;

    let pid = device.path("pid");
    script(&format!(
        "echo $$ > {}; echo mac=a; sleep 60",
        pid.display()
    ));
    logged(&device, "did not end within 10 seconds").await;
    assert!(server.requests().is_empty(), "{:?}", server.requests());

    // the attempt is repeated, and the script that hung is gone
    let hung = std::fs::read_to_string(&pid).unwrap();
    script("echo mac=a");
    server.wait_for("/auth_requests", 1).await;
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", hung.trim()));
    assert!(
        !line.is_ok_and(|line| line.contains("mender-device-identity")),
        "process {hung} still runs"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a6_an_empty_tenant_token_is_none() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "tenant_token = \"\"");
    assert!(
        ended(command(&device, &["bootstrap"]))
            .await
            .status
            .success()
    );
    let body = server.requests()[0].json();
    assert_eq!(body.get("tenant_token"), None);
    assert_eq!(body["tier"], "standard");
    let device = Device::new(&[&server.url], "device_tier = \"huge\"");
    let refused = verb(&device, &["daemon"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("device_tier"));
}

#[tokio::test]
async fn a7_a9_the_body_of_a_200_is_the_token_and_stays_in_memory() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "daemon_log_level = \"trace\"");
    let mut daemon = Daemon::start(&device);
    let asked = server.wait_for("/next", 1).await;
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(asked[0].header("authorization"), Some(bearer.as_str()));
    assert!(!device.holds(TOKEN), "the token is on disk");
    // neither a kill nor an end in order leaves it there
    daemon.kill();
    assert!(!device.holds(TOKEN), "the token is on disk after a kill");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 2).await;
    daemon.stop().await;
    assert!(!device.holds(TOKEN), "the token is on disk after the end");
    assert_eq!(server.requests_to("/auth_requests").len(), 2);
}

#[tokio::test]
async fn a11_both_ways_to_name_servers_in_a_reference_configuration_are_refused() {
    let device = Device::new(&[], "");
    std::fs::remove_file(device.path("conf/agent.toml")).unwrap();
    device.write(
        "conf/mender.conf",
        r#"{"ServerURL": "https://a.example", "Servers": [{"ServerURL": "https://b.example"}]}"#,
    );
    let refused = verb(&device, &["daemon"]);
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    for part in ["mender.conf", "'ServerURL'", "'Servers'"] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

/// W30.
#[tokio::test]
async fn a_server_may_be_an_ipv6_address() {
    let server = Server::friendly(|_| None).await;
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        ambidex_harness::skip("this machine has no IPv6");
        return;
    };
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = server.url.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let device = Device::new(&[&url], "");
    assert!(
        ended(command(&device, &["bootstrap"]))
            .await
            .status
            .success()
    );
    assert!(url.contains("[::1]"), "{url}");
    assert_eq!(
        server.requests()[0].header("host"),
        url.strip_prefix("http://")
    );
}
