//! The daemon as a process against a scripted server: polls, triggers, inventory, stopping.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use ambidex_agent::deployment::Store;
use ambidex_machine::{Adoption, Record, Step};
use ambidex_wire::deployments::DeviceStatus;
use support::{
    Device, Server, answer, answer_with,
    daemon::{Daemon, attribute, command, log_of, verb},
};

/// P1, I1, I2, G3.
#[tokio::test]
async fn a_start_sends_the_inventory_and_asks_for_a_deployment() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    device.script(
        "data/inventory/mender-inventory-b",
        "echo list=2; echo device_type=from-script",
    );
    device.script(
        "data/inventory/mender-inventory-a",
        "echo list=1; echo zone=z",
    );
    device.script("data/inventory/mender-inventory-bad", "echo lost=1; exit 1");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;
    let order: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.target.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["auth_requests", "attributes", "next"]);

    let inventory = &server.requests_to("/attributes")[0];
    assert_eq!(inventory.method, "PUT");
    let body = inventory.json();
    let names: Vec<&str> = body
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["name"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(
        attribute(&body, "list"),
        Some(serde_json::json!(["1", "2"]))
    );
    assert_eq!(attribute(&body, "zone"), Some(serde_json::json!("z")));
    assert_eq!(attribute(&body, "lost"), None);
    assert_eq!(
        attribute(&body, "device_type"),
        Some(serde_json::json!("from-script"))
    );
    assert_eq!(
        attribute(&body, "artifact_name"),
        Some(serde_json::json!("unknown"))
    );
    assert!(attribute(&body, "mender_client_version").is_some());
    assert!(attribute(&body, "kernel").is_some());

    let next = server.requests_to("/next")[0].json();
    assert_eq!(next["device_provides"]["device_type"], "test-board");
    assert_eq!(next["device_provides"]["artifact_name"], "unknown");
    daemon.stop().await;
}

/// P8, I1: SIGUSR1, SIGUSR2 and the verbs; an unchanged inventory is not sent again.
#[tokio::test]
async fn the_verbs_wake_the_daemon() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    let refused = verb(&device, &["check-update"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("no daemon runs"),
        "{refused:?}"
    );

    device.script(
        "data/inventory/mender-inventory-a",
        &format!("cat {}", device.path("fact").display()),
    );
    device.write("fact", "fact=1\n");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;
    assert!(verb(&device, &["check-update"]).status.success());
    server.wait_for("/next", 2).await;
    daemon.signal(nix::sys::signal::Signal::SIGUSR1);
    server.wait_for("/next", 3).await;

    assert!(verb(&device, &["send-inventory"]).status.success());
    device.write("fact", "fact=2\n");
    daemon.signal(nix::sys::signal::Signal::SIGUSR2);
    let sent = server.wait_for("/attributes", 2).await;
    let facts: Vec<_> = sent
        .iter()
        .map(|r| attribute(&r.json(), "fact").unwrap())
        .collect();
    assert_eq!(facts, ["1", "2"]);
    daemon.stop().await;
}

/// A7, W5: a pending device tries by itself and shows up at once when it is accepted.
#[tokio::test]
async fn acceptance_is_noticed_without_help() {
    let tries = AtomicUsize::new(0);
    let server = Server::friendly(move |r| {
        let pending =
            r.target.ends_with("/auth_requests") && tries.fetch_add(1, Ordering::SeqCst) < 4;
        pending.then(|| answer(401, ""))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;
    assert_eq!(server.requests_to("/auth_requests").len(), 5);
    assert_eq!(server.requests_to("/attributes").len(), 1);
    daemon.stop().await;
}

/// P2, P7: the backoff grows to its cap, gives up until the regular poll, and starts over.
#[tokio::test]
async fn polls_back_off_after_errors() {
    let server = Server::friendly(|r| r.target.contains("/next").then(|| answer(500, ""))).await;
    let device = Device::new(&[&server.url], "");
    device.write(
        "conf/agent.toml",
        &format!(
            "server_url = {:?}\nupdate_poll_interval_seconds = 3\nretry_poll_first_seconds = 0.2\nretry_poll_interval_seconds = 0.4\n",
            server.url
        ),
    );
    let daemon = Daemon::start(&device);
    let polls = server.wait_for("/next", 8).await;
    let gaps: Vec<f64> = polls
        .windows(2)
        .map(|w| (w[1].at - w[0].at).as_secs_f64())
        .collect();
    for (gap, expected) in gaps.iter().zip([0.2, 0.2, 0.2, 0.4, 0.4, 0.4, 3.0]) {
        assert!(
            *gap > expected * 0.89 && *gap < expected * 1.11 + 0.5,
            "{gaps:?}"
        );
    }
    daemon.stop().await;
}

/// P6.
#[tokio::test]
async fn the_servers_wish_to_wait_is_honoured() {
    let tries = AtomicUsize::new(0);
    let server = Server::friendly(move |r| {
        let busy = r.target.contains("/next") && tries.fetch_add(1, Ordering::SeqCst) == 0;
        busy.then(|| answer_with(429, &[("Retry-After", "1")], ""))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let daemon = Daemon::start(&device);
    let polls = server.wait_for("/next", 2).await;
    let gap = polls[1].at - polls[0].at;
    assert!(
        gap >= Duration::from_millis(990) && gap < Duration::from_millis(1800),
        "{gap:?}"
    );
    daemon.stop().await;
}

/// A8: a token that is refused in a poll is renewed, and the inventory sent anew.
#[tokio::test]
async fn a_new_login_sends_the_inventory_again() {
    let next = AtomicUsize::new(0);
    let server = Server::friendly(move |r| {
        let refused = r.target.contains("/next") && next.fetch_add(1, Ordering::SeqCst) == 1;
        refused.then(|| answer(401, ""))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;
    assert!(verb(&device, &["check-update"]).status.success());
    server.wait_for("/attributes", 2).await;
    assert_eq!(server.requests_to("/auth_requests").len(), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;
    let second = verb(&device, &["daemon"]);
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(
        text.contains("another daemon runs already") && text.contains("process"),
        "{text}"
    );
    let status = String::from_utf8(verb(&device, &["status"]).stdout).unwrap();
    assert!(status.contains("running, process"), "{status}");
    daemon.stop().await;
    let status = String::from_utf8(verb(&device, &["status"]).stdout).unwrap();
    assert!(status.contains("not running"), "{status}");
}

/// A11 and other mistakes: named, with the file, the key and the remedy, and exit code 1.
#[tokio::test]
async fn a_wrong_configuration_is_explained() {
    let device = Device::new(&[], "");
    for (text, expected) in [
        (
            "server_url = \"https://a\"\nservers = [\"https://b\"]\n",
            "'servers' and 'server_url' are both set",
        ),
        ("server_ulr = \"https://a\"\n", "server_ulr"),
        ("server_url = \"a b\"\n", "'server_url' holds 'a b'"),
        ("server_url = \"https://u:p@a\"\n", "user or password"),
        (
            "update_poll_interval_seconds = 0\n",
            "'update_poll_interval_seconds' is 0",
        ),
        (
            "artifact_verify_keys = [\"/nonexistent.pem\"]\n",
            "'/nonexistent.pem', which cannot be read",
        ),
        (
            "[https_client]\ncertificate = \"/c\"\n",
            "'https_client.key' is missing",
        ),
        ("[boot]\nkind = \"lilo\"\n", "'boot.kind' is 'lilo'"),
        ("", "no server is configured"),
    ] {
        device.write("conf/agent.toml", text);
        let output = verb(&device, &["daemon"]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains(expected), "{text}: {complaint}");
    }
}

#[tokio::test]
async fn a_reference_configuration_is_read_as_it_is() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[], "");
    std::fs::remove_file(device.path("conf/agent.toml")).unwrap();
    device.write(
        "state/mender.conf",
        r#"{"RootfsPartA": "/dev/a2", "serverurl": "https://overridden.example"}"#,
    );
    device.write(
        "conf/mender.conf",
        &format!(r#"{{"SERVERURL": "{}", "TenantToken": "tt", "UnknownKey": 1, "SkipVerify": "wrong type"}}"#, server.url),
    );
    let daemon = Daemon::start(&device);
    let logins = server.wait_for("/auth_requests", 1).await;
    assert_eq!(logins[0].json()["tenant_token"], "tt");
    server.wait_for("/next", 1).await;
    daemon.stop().await;
    assert!(
        log_of(&device).contains("'skip_verify' is ignored"),
        "{}",
        log_of(&device)
    );
}

/// G3: also while the server does not answer.
#[tokio::test]
async fn it_stops_at_once_while_it_waits_for_an_answer() {
    let server = Server::friendly(|r| {
        r.target
            .contains("/next")
            .then(|| support::stall(200, &[], "xx", 1))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;
    let started = Instant::now();
    daemon.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// A new system may bring a configuration that cannot be read: the deployment that brought it still
/// comes to its end, and its result waits for a server.
#[tokio::test]
async fn a_broken_configuration_does_not_keep_a_deployment_from_ending() {
    let device = Device::new(&[], "");
    let state = device.path("state");
    let mut record = Record::new("d-1", "http://127.0.0.1:1/a");
    record.step = Step::Stream;
    Store::open(&state)
        .unwrap()
        .save_deployment(&record, Adoption::Keep)
        .unwrap();
    device.write("conf/agent.toml", "server_ulr = 1\n");
    device.write(
        "state/agent.toml",
        "retry_poll_first_seconds = 0.02\nretry_poll_interval_seconds = 0.02\n",
    );

    let output = verb(&device, &["daemon"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("server_ulr") && text.contains("only to finish the deployment"),
        "{text}"
    );
    let store = Store::open(&state).unwrap();
    assert!(store.deployment().is_none());
    let waiting: Vec<_> = store
        .reports()
        .iter()
        .map(|r| (r.deployment_id.as_str(), r.status))
        .collect();
    assert_eq!(waiting, [("d-1", DeviceStatus::Failure)]);

    // without anything to finish it does not even start
    let output = verb(&device, &["daemon"]);
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("only to finish"),
        "{output:?}"
    );

    // once the configuration is right, the server learns of it before anything else
    let server = Server::friendly(|_| None).await;
    device.write(
        "conf/agent.toml",
        &format!("server_url = {:?}\n", server.url),
    );
    let daemon = Daemon::start(&device);
    let told = server.wait_for("/d-1/status", 1).await;
    assert_eq!(told[0].json()["status"], "failure");
    server.wait_for("/d-1/log", 1).await;
    server.wait_for("/next", 1).await;
    let order: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.target.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        order,
        ["auth_requests", "status", "log", "attributes", "next"]
    );
    daemon.stop().await;
}

#[tokio::test]
async fn the_state_is_shown_without_a_server_and_without_a_daemon() {
    let device = Device::new(&["https://updates.example"], "");
    let print = |words: &[&str]| String::from_utf8(verb(&device, words).stdout).unwrap();
    assert_eq!(print(&["show-artifact"]), "unknown\n");
    assert_eq!(print(&["show-provides"]), "");
    let status = print(&["status"]);
    for expected in [
        "https://updates.example",
        "test-board",
        "not made yet",
        "not running",
        "nothing",
    ] {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    assert!(print(&["--help"]).contains("USAGE"));
    assert!(print(&["install", "--help"]).contains("--reboot-exit-code"));
    assert_eq!(
        print(&["--version"]),
        format!("ambidex-agent {}\n", ambidex_agent::VERSION)
    );
    assert_eq!(verb(&device, &["commit"]).status.code(), Some(2));
    let mistaken = verb(&device, &["instal"]);
    assert_eq!(mistaken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&mistaken.stderr).contains("'instal' is no command"));
}

/// `bootstrap`: a key of its own, a new one only when it is asked for.
#[tokio::test]
async fn bootstrapping_makes_a_key_and_forcing_it_keeps_the_old_one() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    let bootstrap = |words: &'static [&'static str]| {
        let mut command = command(&device, words);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let key = || std::fs::read_to_string(device.path("state/mender-agent.pem")).unwrap();
    assert!(bootstrap(&["bootstrap"]).await.unwrap().status.success());
    let first = key();
    assert!(bootstrap(&["bootstrap"]).await.unwrap().status.success());
    assert_eq!(key(), first);
    assert!(
        bootstrap(&["bootstrap", "-F"])
            .await
            .unwrap()
            .status
            .success()
    );
    assert_ne!(key(), first);
    assert_eq!(
        std::fs::read_to_string(device.path("state/mender-agent.pem.replaced")).unwrap(),
        first
    );
    assert_eq!(server.requests_to("/auth_requests").len(), 3);
}
