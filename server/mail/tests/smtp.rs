//! Mail over real connections to a mail server.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ambidex_mail::sink::{Behaviour, Sink};
use ambidex_mail::{Mail, MailError, Mailer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const LIMIT: Duration = Duration::from_secs(20);

fn mail() -> Mail {
    Mail {
        to: vec!["User <user@example.com>".to_owned()],
        bcc: vec!["archive@example.com".to_owned()],
        subject: "Your password".to_owned(),
        text: "https://ota.example.com/ui/#/password/0123456789abcdef0123456789abcdef0123456789abcdef\n.\n..x\n"
            .to_owned(),
        ..Mail::default()
    }
}

fn certificate(dir: &Path) -> Arc<ServerConfig> {
    let done = Command::new("openssl")
        .current_dir(dir)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .output()
        .unwrap();
    assert!(done.status.success());
    let cert = CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    Arc::new(config)
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let sink = Sink::start(Behaviour::default()).unwrap();
    let url = format!("{}?from=Fleet%20%3Cota@example.com%3E", sink.url());
    let mailer = Mailer::smtp(&url, None).unwrap();
    mailer.send(mail()).await.unwrap();
    let received = sink.wait(1, LIMIT).unwrap();
    assert_eq!(received.from, "ota@example.com");
    assert_eq!(received.to, ["user@example.com", "archive@example.com"]);
    assert_eq!(received.text().trim_end(), mail().text.trim_end());
    assert!(received.data.contains("Subject: Your password\n"));
    assert!(received.data.contains("From: Fleet <ota@example.com>\n"));
    assert!(!received.data.contains("archive"), "{}", received.data);
    assert!(!received.encrypted && received.login.is_none());

    let named = Mailer::smtp(&url, Some("other@example.com")).unwrap();
    named.send(mail()).await.unwrap();
    assert_eq!(sink.wait(2, LIMIT).unwrap().from, "other@example.com");
}

#[tokio::test]
async fn the_login_goes_over_starttls_only() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start(Behaviour {
        starttls: Some(certificate(dir.path())),
        login: Some(("fleet".to_owned(), "a secret".to_owned())),
        refuse: None,
    })
    .unwrap();
    let ca = dir.path().join("cert.pem");
    let url = |password: &str, options: &str| {
        let port = sink.address.port();
        format!("smtp://fleet:{password}@localhost:{port}?{options}&from=ota@example.com")
    };
    let trusting = format!("starttls=required&ca={}", ca.display());
    let send = async |url: &str| Mailer::smtp(url, None).unwrap().send(mail()).await;
    send(&url("a%20secret", &trusting)).await.unwrap();
    let received = sink.wait(1, LIMIT).unwrap();
    assert!(received.encrypted);
    assert_eq!(received.login.unwrap().1, "a secret");

    let wrong = send(&url("wrong%20one", &trusting)).await.unwrap_err();
    let text = wrong.to_string();
    assert!(matches!(wrong, MailError::Refused(_)), "{wrong:?}");
    assert!(
        text.contains("wrong user name") && !text.contains("wrong one"),
        "{text}"
    );
    // A certificate that nobody vouches for is no secret channel.
    let stranger = send(&url("a%20secret", "starttls=required"))
        .await
        .unwrap_err();
    assert!(!stranger.to_string().contains("a secret"), "{stranger}");
    assert_eq!(sink.received().len(), 1);
}

#[tokio::test]
async fn a_server_without_starttls_is_not_told_the_password_when_it_is_required() {
    let sink = Sink::start(Behaviour::default()).unwrap();
    let port = sink.address.port();
    let url = format!("smtp://u:secret@localhost:{port}?starttls=required");
    let error = Mailer::smtp(&url, None)
        .unwrap()
        .send(mail())
        .await
        .unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(sink.received().len(), 0);
}

#[tokio::test]
async fn refusals_for_good_and_for_now_are_told_apart() {
    for (answer, temporary) in [("550 5.1.1 no such user", false), ("451 4.7.1 later", true)] {
        let sink = Sink::start(Behaviour {
            refuse: Some(answer.to_owned()),
            ..Behaviour::default()
        })
        .unwrap();
        let mailer = Mailer::smtp(&sink.url(), None).unwrap();
        let error = mailer.send(mail()).await.unwrap_err();
        assert_eq!(error.is_temporary(), temporary, "{error:?}");
        assert!(error.to_string().contains(&answer[4..9]), "{error}");
    }
    // Nobody listens there: the listener is gone before its port is used.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mailer = Mailer::smtp(&format!("smtp://{gone}"), None).unwrap();
    let error = mailer.send(mail()).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
}

#[tokio::test]
async fn without_a_mail_server_the_remedy_is_named_and_memory_keeps_mails() {
    let none = Mailer::none();
    assert!(!none.is_configured());
    let error = none.send(mail()).await.unwrap_err();
    assert_eq!(error, MailError::NotConfigured);
    assert!(error.to_string().contains("--smtp-url"));

    let memory = Mailer::memory();
    let sending = memory.clone();
    let waiting = tokio::spawn(async move { sending.received(2).await });
    memory.send(mail()).await.unwrap();
    memory.send(mail()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), [mail(), mail()]);
    let nobody = Mail {
        to: Vec::new(),
        bcc: Vec::new(),
        ..mail()
    };
    assert!(matches!(
        memory.send(nobody).await,
        Err(MailError::Invalid(_))
    ));
    assert_eq!(memory.sent().len(), 2);
}
