//! Wrong use ends in exit code 1 or 2 and a text that names the thing and the remedy.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::instance::{BINARY, EMAIL, Instance, PASSWORD, verb};

/// Runs a command that must fail; returns its exit code and what it said.
fn fails(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    (output.status.code().unwrap(), text)
}

#[test]
fn what_cannot_be_done_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (data, file, config) = (path("data"), path("file"), path("server.toml"));
    let below = format!("{file}/data");
    std::fs::write(&file, "").unwrap();
    std::fs::write(&config, "listne = '127.0.0.1:0'").unwrap();
    let serve = |options: &[&str]| {
        let mut all = vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--internal-listen",
            "127.0.0.1:0",
        ];
        all.extend_from_slice(options);
        if !options.contains(&"--data-dir") {
            all.extend_from_slice(&["--data-dir", data.as_str()]);
        }
        fails(&all)
    };
    for (options, code, texts) in [
        (
            vec!["--database-url", "mysql://u:secret@h/d"],
            1,
            vec!["--database-url", "sqlite:", "postgres://"],
        ),
        (
            vec!["--storage-url", "ftp://secret"],
            1,
            vec!["--storage-url", "file:DIR", "s3://BUCKET"],
        ),
        (
            vec!["--storage-url", "s3://secret?colour=blue"],
            1,
            vec!["--storage-url", "colour"],
        ),
        (
            vec!["--nats-url", "nats://u:secret@h?colour=blue"],
            1,
            vec!["--nats-url", "colour"],
        ),
        (
            vec!["--smtp-url", "smtp://u:secret@h?tls=1"],
            1,
            vec!["--smtp-url", "starttls"],
        ),
        (
            vec!["--tls-cert", "cert.pem"],
            1,
            vec!["--tls-cert needs --tls-key"],
        ),
        (
            vec!["--tls-cert", "no.pem", "--tls-key", "no.key"],
            1,
            vec!["TLS certificate no.pem"],
        ),
        (
            vec!["--public-url", "nonsense"],
            1,
            vec!["--public-url", "https://"],
        ),
        (
            vec!["--config", config.as_str()],
            1,
            vec!["server.toml", "listne"],
        ),
        (
            vec!["--config", "/nonexistent.toml"],
            1,
            vec!["/nonexistent.toml"],
        ),
        (
            vec!["--data-dir", below.as_str()],
            1,
            vec!["file/data", "--data-dir"],
        ),
        (vec!["--nonsense"], 2, vec!["--nonsense"]),
    ] {
        let (exit, text) = serve(&options);
        assert_eq!(exit, code, "{options:?}: {text}");
        assert!(
            texts.iter().all(|part| text.contains(part)),
            "{options:?}: {text}"
        );
        // The name of a key is no secret.
        let text = text.replace("recaptcha_secret", "");
        assert!(!text.contains("secret"), "{options:?}: {text}");
    }
    let (_, text) = fails(&["serve", "--listen", "nonsense", "--data-dir", &data]);
    assert!(
        text.contains("--listen nonsense") && text.contains("127.0.0.1:8080"),
        "{text}"
    );
}

#[test]
fn ports_and_directories_in_use_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &[]);
    let other = dir.path().join("other");
    let taken = server.public.to_string();
    let (code, text) = fails(&[
        "serve",
        "--listen",
        &taken,
        "--internal-listen",
        "127.0.0.1:0",
        "--data-dir",
        other.to_str().unwrap(),
    ]);
    assert_eq!(code, 1);
    assert!(
        text.contains(&taken) && text.contains("another program listens there"),
        "{text}"
    );
    let (code, text) = fails(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--internal-listen",
        "127.0.0.1:0",
        "--data-dir",
        server.data_dir.to_str().unwrap(),
    ]);
    assert_eq!(code, 1);
    assert!(text.contains("in use by another ambidex-server"), "{text}");
    assert!(
        server.data_dir.join("listen.json").exists(),
        "the running server's file was left alone"
    );
    // A killed server frees its directory.
    server.kill();
    Instance::start(dir.path(), &[]);
}

#[test]
fn damaged_data_is_named() {
    for (file, texts) in [
        ("server.db", ["server.db", "backup"]),
        ("keys/token-signing.pem", ["token-signing.pem", "restore"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir_all(data.join("keys")).unwrap();
        std::fs::write(data.join(file), "nonsense ".repeat(1000)).unwrap();
        let (code, text) = fails(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--internal-listen",
            "127.0.0.1:0",
            "--data-dir",
            data.to_str().unwrap(),
        ]);
        assert_eq!(code, 1);
        assert!(texts.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[test]
fn verbs_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let output = verb(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let create = |email: &str, password: &str| {
        said(&["user", "create", "--email", email, "--password", password])
    };
    assert!(create(EMAIL, "short").contains("minimum 8 characters"));
    assert!(create("nonsense", PASSWORD).contains("valid email"));
    assert!(
        said(&["user", "create", "--email", EMAIL]).contains("--password-file"),
        "no terminal to ask"
    );
    let tenant = [
        "user",
        "create",
        "--email",
        EMAIL,
        "--password",
        PASSWORD,
        "--tenant",
        "nobody",
    ];
    assert!(said(&tenant).contains("tenant not found"));
    let role = [
        "user",
        "create",
        "--email",
        EMAIL,
        "--password",
        PASSWORD,
        "--role",
        "X",
    ];
    assert!(said(&role).contains("role X does not exist"));
    let nobody = [
        "user",
        "set-password",
        "--email",
        EMAIL,
        "--password",
        PASSWORD,
    ];
    assert!(said(&nobody).contains("user not found"));
    assert!(said(&["tenant", "show", "nobody"]).contains("tenant not found"));
    let missing = [
        "user",
        "create",
        "--email",
        EMAIL,
        "--password-file",
        "/nonexistent",
    ];
    assert!(said(&missing).contains("/nonexistent"));
    let output = verb(Path::new(dir.path()), &["migrate"]);
    assert!(output.status.success());
}
