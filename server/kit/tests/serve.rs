//! The accept loop over real sockets: limits, graceful stop, TLS.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambidex_kit::{Limits, RawBody, Shutdown, Tls, front, serve};
use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<usize>,
    release: Arc<Notify>,
}

/// `/now` answers at once, `/slow` when released, `/echo` after the whole body.
async fn start(limits: Limits, tls: Option<Tls>) -> Server {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let slow = move || async move {
        gate.notified().await;
        "slow"
    };
    let routes = Router::new()
        .route("/now", get(|| async { "now" }))
        .route("/slow", get(slow))
        .route("/echo", post(|body: RawBody| async move { body.0 }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let task = tokio::spawn(serve(
        listener,
        front(routes),
        tls,
        limits,
        shutdown.clone(),
    ));
    Server {
        address,
        shutdown,
        task,
        release,
    }
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Reads until `end` or the end of the stream.
async fn answer(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    while !String::from_utf8_lossy(&text).ends_with(end) {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(n) => text.extend_from_slice(&piece[..n]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_stop_finishes_requests_in_flight() {
    let server = start(Limits::default(), None).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    ask(&mut idle, "/now").await;
    assert!(answer(&mut idle, "now").await.starts_with("HTTP/1.1 200"));
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    ask(&mut busy, "/slow").await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    server.shutdown.trigger();
    assert_eq!(
        answer(&mut idle, "never").await,
        "",
        "idle connections are closed at once"
    );
    // The listener goes away while the request is still being served.
    let started = Instant::now();
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!server.task.is_finished());
    server.release.notify_one();
    assert!(answer(&mut busy, "slow").await.ends_with("slow"));
    assert_eq!(server.task.await.unwrap(), 0);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let limits = Limits {
        drain: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = start(limits, None).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    ask(&mut busy, "/slow").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.trigger();
    assert_eq!(server.task.await.unwrap(), 1, "cut off");
    assert_eq!(answer(&mut busy, "never").await, "");
}

#[tokio::test]
async fn slow_heads_and_stalled_bodies_are_ended() {
    let limits = Limits {
        header_read: Duration::from_millis(400),
        body_stall: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = start(limits, None).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /now HTTP/1.1\r\nhost:").await.unwrap();
    let started = Instant::now();
    let text = answer(&mut slow, "never").await;
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408"),
        "{text}"
    );

    let mut stalled = TcpStream::connect(server.address).await.unwrap();
    let head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc";
    stalled.write_all(head).await.unwrap();
    let text = answer(&mut stalled, "}").await;
    assert!(
        text.starts_with("HTTP/1.1 400") && text.contains("no progress"),
        "{text}"
    );

    // A body that is slow but keeps coming is fine, even if it takes longer than the limit as a whole.
    let mut steady = TcpStream::connect(server.address).await.unwrap();
    let head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n";
    steady.write_all(head).await.unwrap();
    for byte in b"steadily" {
        tokio::time::sleep(Duration::from_millis(80)).await;
        steady.write_all(&[*byte]).await.unwrap();
    }
    assert!(answer(&mut steady, "steadily").await.ends_with("steadily"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = start(
        Limits {
            connections: 2,
            ..Limits::default()
        },
        None,
    )
    .await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    for stream in [&mut first, &mut second] {
        ask(stream, "/now").await;
        answer(stream, "now").await;
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    ask(&mut third, "/now").await;
    let early = tokio::time::timeout(Duration::from_millis(200), answer(&mut third, "now")).await;
    assert!(early.is_err(), "served beyond the limit");
    drop(first);
    assert!(answer(&mut third, "now").await.ends_with("now"));
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let server = start(Limits::default(), None).await;
    for head in ["content-length: 1048577", "transfer-encoding: chunked"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let text = format!("POST /echo HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        if head.starts_with("transfer") {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            for _ in 0..16 {
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }
            stream.write_all(b"1\r\nx\r\n").await.unwrap();
        }
        let text = answer(&mut stream, "}").await;
        assert!(text.starts_with("HTTP/1.1 413"), "{head}: {text}");
    }
}

fn certificate(dir: &std::path::Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args([
            "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[tokio::test]
async fn tls_is_served_from_files() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let server = start(
        Limits::default(),
        Some(Tls::from_files(&cert, &key).unwrap()),
    )
    .await;
    let url = format!("https://localhost:{}/now", server.address.port());
    let got = tokio::process::Command::new("curl")
        .args(["-sSi", "--max-time", "20", "--cacert"])
        .arg(&cert)
        .arg(&url)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&got.stdout).to_lowercase();
    assert!(
        text.starts_with("http/1.1 200") && text.ends_with("now"),
        "{got:?}"
    );
    assert!(
        text.contains("strict-transport-security: max-age=63072000"),
        "{text}"
    );
    // Plain http gets nothing, and does not disturb the server.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    ask(&mut plain, "/now").await;
    assert!(!answer(&mut plain, "never").await.contains("200"));
}

#[test]
fn unusable_tls_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    certificate(dir.path());
    certificate(other.path());
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let junk = dir.path().join("junk.pem");
    std::fs::write(&junk, "junk").unwrap();
    for (cert, key, named) in [
        (&dir.path().join("missing.pem"), &key, "missing.pem"),
        (&junk, &key, "junk.pem: no certificate in it"),
        (&cert, &junk, "TLS key"),
        (&cert, &cert, "TLS key"),
        (
            &cert,
            &other.path().join("key.pem"),
            "cannot be used together",
        ),
    ] {
        let Err(error) = Tls::from_files(cert, key) else {
            panic!("{named}: accepted");
        };
        assert!(error.to_string().contains(named), "{error}");
    }
}
