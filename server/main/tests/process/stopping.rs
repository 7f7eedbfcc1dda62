//! A stop finishes what is under way.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::instance::Instance;

const SETTINGS: &str = "/api/management/v1/useradm/settings";

/// 100 kB that the server keeps as they are.
fn settings() -> String {
    let pairs: Vec<String> = (0..25)
        .map(|n| format!(r#""k{n}":"{}""#, "x".repeat(4000)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Sends the head and the first half of a request, waits for `between`, sends the rest.
fn slowly(server: &Instance, token: &str, between: impl FnOnce()) -> String {
    let body = settings();
    let (first, second) = body.split_at(body.len() / 2);
    let mut stream = TcpStream::connect(server.public).unwrap();
    let head = format!(
        "POST {SETTINGS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    between();
    for piece in second.as_bytes().chunks(10_000) {
        stream.write_all(piece).unwrap();
        // The upload takes its time.
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_upload_under_way_is_finished_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    let token = server.token();
    let (public, pid) = (server.public, server.pid().to_string());
    let answer = slowly(&server, &token, || {
        let done = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(done.success());
        // Nobody new is let in, while the request goes on.
        wait_for("the listener did not close", || {
            TcpStream::connect(public).is_err()
        });
    });
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let log = server.log_at();
    assert_eq!(server.ended(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("SIGTERM: finishing requests in flight"),
        "{log}"
    );
    assert!(log.trim_end().ends_with("stopped"), "{log}");
    assert!(!log.contains("cut off"), "{log}");

    let server = Instance::start(dir.path(), &[]);
    let kept = server.call("GET", SETTINGS, &token, "");
    assert_eq!(kept.body, settings());
}
