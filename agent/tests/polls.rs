//! What the daemon asks and tells over time: the P, I and D rows of the acceptance table that need the whole
//! program.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use support::{
    Answer, Device, Request, Server, answer, answer_with,
    daemon::{Daemon, attribute, log_of, verb},
};

/// Replaces the configuration: nothing but these lines.
fn configure(device: &Device, server: &Server, lines: &str) {
    let text = format!(
        "server_url = {:?}\nretry_poll_first_seconds = 0.05\nretry_poll_interval_seconds = 0.2\n{lines}\n",
        server.url
    );
    device.write("conf/agent.toml", &text);
}

fn gaps(requests: &[Request]) -> Vec<f64> {
    let gap = |pair: &[Request]| (pair[1].at - pair[0].at).as_secs_f64();
    requests.windows(2).map(gap).collect()
}

/// An inventory script that prints the content of the file `fact`.
fn tell_fact(device: &Device) {
    let body = format!("cat {}", device.path("fact").display());
    device.script("data/inventory/mender-inventory-fact", &body);
}

fn facts_sent(server: &Server) -> Vec<String> {
    server
        .requests_to("/attributes")
        .iter()
        .map(|request| attribute(&request.json(), "fact").unwrap())
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn p2_both_intervals_are_honoured() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[], "");
    device.script("data/inventory/mender-inventory-t", "date +time=%s.%N");
    configure(
        &device,
        &server,
        "update_poll_interval_seconds = 0.5\ninventory_poll_interval_seconds = 1.5",
    );
    let daemon = Daemon::start(&device);
    let inventories = server.wait_for("/attributes", 3).await;
    let polls = server.wait_for("/next", 7).await;
    for (requests, interval) in [(&polls, 0.5), (&inventories, 1.5)] {
        for gap in gaps(requests) {
            // a tenth of jitter, and a busy machine
            assert!(
                gap > interval * 0.85 && gap < interval * 1.1 + 0.6,
                "{gap} instead of {interval}"
            );
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn p5_nonsense_instead_of_a_deployment_is_asked_again_until_there_is_none() {
    let asked = AtomicUsize::new(0);
    let server = Server::friendly(move |request| {
        if !request.target.contains("/next") {
            return None;
        }
        let nonsense = ["", "<html>", "{\"id\":1}"];
        let body = nonsense.get(asked.fetch_add(1, Ordering::SeqCst))?;
        Some(answer(200, *body))
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 4).await;
    // the fourth was 204: idle until somebody asks
    assert!(verb(&device, &["check-update"]).status.success());
    server.wait_for("/next", 5).await;
    daemon.stop().await;
    assert_eq!(server.requests_to("/next").len(), 5, "{}", log_of(&device));
}

#[tokio::test]
async fn p6_a_server_may_name_the_time_to_come_back() {
    let asked = AtomicUsize::new(0);
    let server = Server::friendly(move |request| {
        let busy = request.target.contains("/next") && asked.fetch_add(1, Ordering::SeqCst) == 0;
        busy.then(|| {
            let then = jiff::Timestamp::now() + Duration::from_secs(3);
            let date = jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&then)
                .unwrap();
            answer_with(429, &[("Retry-After", &date)], "")
        })
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let daemon = Daemon::start(&device);
    let polls = server.wait_for("/next", 2).await;
    // a date has whole seconds only
    let gap = gaps(&polls)[0];
    assert!((1.5..4.5).contains(&gap), "{gap}");
    daemon.stop().await;
}

#[tokio::test]
async fn p8_i1_signals_and_verbs_send_what_has_changed() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    tell_fact(&device);
    device.write("fact", "fact=1\n");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;

    device.write("fact", "fact=2\n");
    assert!(verb(&device, &["send-inventory"]).status.success());
    server.wait_for("/attributes", 2).await;
    device.write("fact", "fact=3\n");
    daemon.signal(Signal::SIGUSR2);
    server.wait_for("/attributes", 3).await;

    // what the server has already is not sent
    daemon.signal(Signal::SIGUSR2);
    let limit = Instant::now() + Duration::from_secs(20);
    while !log_of(&device).contains("the inventory has not changed") {
        assert!(Instant::now() < limit, "{}", log_of(&device));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(facts_sent(&server), ["1", "2", "3"]);

    assert!(verb(&device, &["check-update"]).status.success());
    server.wait_for("/next", 2).await;
    daemon.signal(Signal::SIGUSR1);
    server.wait_for("/next", 3).await;
    assert_eq!(facts_sent(&server).len(), 3);
    daemon.stop().await;
}

#[tokio::test]
async fn i3_a_fact_that_is_gone_is_not_in_what_replaces_the_inventory() {
    let server = Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    device.script("data/inventory/mender-inventory-more", "echo more=1");
    let daemon = Daemon::start(&device);
    server.wait_for("/next", 1).await;
    std::fs::remove_file(device.path("data/inventory/mender-inventory-more")).unwrap();
    assert!(verb(&device, &["send-inventory"]).status.success());
    let sent = server.wait_for("/attributes", 2).await;
    assert!(sent.iter().all(|request| request.method == "PUT"));
    let more: Vec<bool> = sent
        .iter()
        .map(|request| attribute(&request.json(), "more").is_some())
        .collect();
    assert_eq!(more, [true, false]);
    daemon.stop().await;
}

#[tokio::test]
async fn d3_a_download_that_breaks_every_time_is_a_failure_and_the_next_poll_comes() {
    let told = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&told);
    let server = Server::friendly(move |request| {
        if request.target == "/artifact" {
            return Some(Answer::Close);
        }
        if request.target.ends_with("/d-1/status") && request.json()["status"] == "failure" {
            ended.store(true, Ordering::SeqCst);
        }
        if request.target.contains("/next") && !ended.load(Ordering::SeqCst) {
            let host = request.header("host").unwrap();
            let body = serde_json::json!({"id": "d-1", "artifact": {
                "artifact_name": "new", "source": {"uri": format!("http://{host}/artifact")},
            }});
            return Some(answer(200, body.to_string()));
        }
        None
    })
    .await;
    let device = Device::new(&[&server.url], "retry_download_count = 3");
    let daemon = Daemon::start(&device);
    server.wait_for("/d-1/log", 1).await;
    server.wait_for("/next", 2).await;
    let statuses: Vec<String> = server
        .requests_to("/d-1/status")
        .iter()
        .map(|request| request.json()["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(statuses, ["downloading", "failure"]);
    assert_eq!(
        server.requests_to("/artifact").len(),
        4,
        "one and three more"
    );
    assert!(told.load(Ordering::SeqCst));
    daemon.stop().await;
}
