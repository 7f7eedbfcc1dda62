//! TLS and proxies: rows A12, A13, A14 of the acceptance table, and the hints in the errors.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use ambidex_agent::Link;
use support::{Device, Server, Stream, acceptor, certificate};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

async fn login(url: &str, extra: &str) -> Result<(), String> {
    let device = Device::new(&[url], extra);
    Link::new(device.config())
        .authorize()
        .await
        .map_err(|error| error.to_string())
}

fn trust() -> String {
    format!("server_certificate = {:?}\n", certificate("authority.pem"))
}

/// A12.
#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_configured() {
    let server = Server::tls("server", false).await;
    let error = login(&server.url, "").await.unwrap_err();
    assert!(
        error.contains("signed by nobody this device trusts")
            && error.contains("server_certificate"),
        "{error}"
    );
    assert!(server.requests().is_empty());
    login(&server.url, &trust()).await.unwrap();
    login(&server.url, "skip_verify = true").await.unwrap();
}

/// A12.
#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let server = Server::tls("other", false).await;
    let error = login(&server.url, &trust()).await.unwrap_err();
    assert!(
        error.contains("not for 127.0.0.1") && error.contains("elsewhere.example"),
        "{error}"
    );
    assert!(server.requests().is_empty());
}

/// W27: the device's clock and the certificate's time are both told.
#[tokio::test]
async fn a_wrong_clock_is_named() {
    let server = Server::tls("early", false).await;
    let error = login(&server.url, &trust()).await.unwrap_err();
    assert!(
        error.contains("valid from 2099-01-01T00:00:00Z") && error.contains("clock says 20"),
        "{error}"
    );
    let server = Server::tls("expired", false).await;
    let error = login(&server.url, &trust()).await.unwrap_err();
    assert!(error.contains("expired at 2020-02-01T00:00:00Z"), "{error}");
}

/// A13.
#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    let server = Server::tls("server", true).await;
    let error = login(&server.url, &trust()).await.unwrap_err();
    assert!(server.requests().is_empty(), "{error}");
    let client = format!(
        "{}[https_client]\ncertificate = {:?}\nkey = {:?}\n",
        trust(),
        certificate("client.pem"),
        certificate("client.key")
    );
    login(&server.url, &client).await.unwrap();
}

/// W28: a file that cannot be used is never silently left out.
#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let server = Server::tls("server", false).await;
    for (extra, expected) in [
        (
            "server_certificate = \"/nonexistent.pem\"".to_owned(),
            "server_certificate: cannot open /nonexistent.pem",
        ),
        (
            format!("server_certificate = {:?}", certificate("make.sh")),
            "holds no PEM certificate",
        ),
        (
            format!(
                "[https_client]\ncertificate = {:?}\nkey = {:?}",
                certificate("client.pem"),
                certificate("server.key")
            ),
            "cannot be used together",
        ),
    ] {
        let error = login(&server.url, &extra).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            client.read_u8().await.unwrap();
            client
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        }
    });
    let error = login(&url, "").await.unwrap_err();
    assert!(error.contains("does not speak TLS there"), "{error}");
}

/// A proxy that tunnels to wherever it is asked; remembers the first lines and credentials.
async fn proxy(tls: Option<TlsAcceptor>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (log, tls) = (Arc::clone(&log), tls.clone());
            tokio::spawn(async move {
                let mut client: Box<dyn Stream> = match tls {
                    None => Box::new(client),
                    // whoever does not trust this proxy has gone
                    Some(tls) => match tls.accept(client).await {
                        Ok(client) => Box::new(client),
                        Err(_) => return,
                    },
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                log.lock().unwrap().push(head.clone());
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let mut server = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 ok\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, seen)
}

/// A14: CONNECT with credentials, and NO_PROXY in its spellings. In processes of their own, because
/// the environment belongs to a process.
#[tokio::test]
async fn proxies_come_from_the_environment() {
    let server = Server::tls("server", false).await;
    let (proxy, seen) = proxy(None).await;
    let device = Device::new(&[&server.url], &trust());
    let run = |no_proxy: &'static str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambidex-agent"));
        command
            .args(["bootstrap", "--conf-dir"])
            .arg(device.path("conf"))
            .arg("--data-dir")
            .arg(device.path("data"))
            .arg("--state-dir")
            .arg(device.path("state"))
            .env("https_proxy", format!("http://user:p%40ss@{proxy}"))
            .env("no_proxy", no_proxy);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let output = run("example.org, 10.0.0.0/8").await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let head = seen.lock().unwrap()[0].clone();
    let host = server.url.strip_prefix("https://").unwrap();
    assert!(
        head.starts_with(&format!("CONNECT {host} HTTP/1.1\r\n")),
        "{head}"
    );
    // user:p@ss
    assert!(
        head.to_ascii_lowercase()
            .contains("proxy-authorization: basic dxnlcjpwqhnz"),
        "{head}"
    );

    for no_proxy in [
        "example.org 127.0.0.1",
        "example.org,127.0.0.1",
        "127.0.0.0/8",
    ] {
        let before = seen.lock().unwrap().len();
        assert!(run(no_proxy).await.unwrap().status.success());
        assert_eq!(seen.lock().unwrap().len(), before, "{no_proxy}");
    }
}

/// A14: a proxy that is itself spoken to by TLS, trusted like any server.
#[tokio::test]
async fn a_proxy_may_be_behind_tls() {
    for (certificate, trusted) in [("server", true), ("other", false)] {
        let server = Server::tls("server", false).await;
        let (proxy, seen) = proxy(Some(acceptor(certificate, false))).await;
        let device = Device::new(&[&server.url], &trust());
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambidex-agent"));
        command
            .args(["bootstrap", "--conf-dir"])
            .arg(device.path("conf"))
            .arg("--data-dir")
            .arg(device.path("data"))
            .arg("--state-dir")
            .arg(device.path("state"))
            .env("https_proxy", format!("https://user:p%40ss@{proxy}"))
            .env("no_proxy", "");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), trusted, "{said}");
        assert_eq!(server.requests().len(), usize::from(trusted), "{said}");
        let heads = seen.lock().unwrap().clone();
        if trusted {
            let host = server.url.strip_prefix("https://").unwrap();
            assert!(
                heads[0].starts_with(&format!("CONNECT {host} ")),
                "{heads:?}"
            );
            let head = heads[0].to_ascii_lowercase();
            assert!(
                head.contains("proxy-authorization: basic dxnlcjpwqhnz"),
                "{head}"
            );
        } else {
            assert!(
                heads.is_empty(),
                "credentials went to a stranger: {heads:?}"
            );
            assert!(said.contains("certificate is not for"), "{said}");
        }
    }
}

/// A12: what is not to be checked is not, not even the name.
#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    for certificate in ["server", "other", "expired"] {
        let server = Server::tls(certificate, false).await;
        login(&server.url, "skip_verify = true").await.unwrap();
        assert_eq!(server.requests().len(), 1, "{certificate}");
    }
}

/// A14: the variables in capitals.
#[tokio::test]
async fn a_proxy_is_found_in_capitals_too() {
    let server = Server::tls("server", false).await;
    let (proxy, seen) = proxy(None).await;
    let device = Device::new(&[&server.url], &trust());
    for (no_proxy, through) in [("example.org", 1), ("example.org 127.0.0.1", 1)] {
        let mut command = support::daemon::command(&device, &["bootstrap"]);
        for name in ["https_proxy", "no_proxy"] {
            command.env_remove(name);
        }
        command
            .env("HTTPS_PROXY", format!("http://{proxy}"))
            .env("NO_PROXY", no_proxy);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        assert!(output.await.unwrap().status.success(), "{no_proxy}");
        assert_eq!(seen.lock().unwrap().len(), through, "{no_proxy}");
    }
    assert_eq!(server.requests().len(), 2);
}
