//! Saving a running server into a file, and bringing it back.

use std::io::{Cursor, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ambidex_artifact::{ArtifactSpec, Payload, PayloadSource, write};
use serde_json::json;

use crate::instance::{EMAIL, Instance, PASSWORD, http, verb, verb_ok};

const ARTIFACTS: &str = "/api/management/v1/deployments/artifacts";
const DEVICES: &str = "/api/management/v2/devauth/devices";
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

fn artifact(name: &str) -> Vec<u8> {
    let module = Payload::Module("single-file".to_owned());
    let spec = ArtifactSpec::new(module, name, vec!["qemu".to_owned()]);
    let mut file = Cursor::new(Vec::new());
    let content = name.repeat(1000);
    let payload = [PayloadSource::from_bytes("file", content.as_bytes())];
    write(&spec, &payload, None, &mut file, &mut |_| ()).unwrap();
    file.into_inner()
}

/// Uploads an artifact; returns its id.
fn upload(server: &Instance, token: &str, name: &str) -> String {
    let mut body =
        b"--b\r\nContent-Disposition: form-data; name=\"artifact\"; filename=\"a\"\r\n\r\n"
            .to_vec();
    body.extend(artifact(name));
    body.extend(b"\r\n--b--\r\n");
    let mut stream = TcpStream::connect(server.public).unwrap();
    let head = format!(
        "POST {ARTIFACTS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let location = answer
        .lines()
        .find_map(|line| line.strip_prefix("location: "));
    location.unwrap().rsplit('/').next().unwrap().to_owned()
}

/// The bytes behind an artifact's link.
fn download(server: &Instance, token: &str, id: &str) -> Vec<u8> {
    let link = server.call("GET", &format!("{ARTIFACTS}/{id}/download"), token, "");
    assert_eq!(link.status, 200, "{}", link.body);
    let uri = link.json()["uri"].as_str().unwrap().to_owned();
    let path = uri.splitn(4, '/').nth(3).unwrap();
    let mut stream = TcpStream::connect(server.public).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    answer.split_off(end + 4)
}

fn preauthorize(server: &Instance, token: &str, name: &str) -> Option<u16> {
    let body = json!({"identity_data": {"mac": name}, "pubkey": KEY}).to_string();
    Some(
        http(
            server.public,
            "POST",
            DEVICES,
            &format!("Bearer {token}"),
            &body,
        )?
        .status,
    )
}

fn device_names(server: &Instance, token: &str) -> Vec<String> {
    let answer = server.call("GET", &format!("{DEVICES}?per_page=500"), token, "");
    let list = answer.json();
    let names = list.as_array().unwrap().iter();
    names
        .map(|device| device["identity_data"]["mac"].as_str().unwrap().to_owned())
        .collect()
}

fn refused(data_dir: &Path, arguments: &[&str]) -> String {
    let output = verb(data_dir, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_running_server_is_saved_and_brought_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    let token = server.token();
    let ids = ["one", "two"].map(|name| upload(&server, &token, name));
    for n in 0..20 {
        assert_eq!(
            preauthorize(&server, &token, &format!("before-{n}")),
            Some(201)
        );
    }
    let file = dir.path().join("saved");
    let saved = file.to_str().unwrap();
    // Writes go on while the backup is made.
    let stop = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                assert_eq!(
                    preauthorize(&server, &token, &format!("during-{n}")),
                    Some(201)
                );
            }
        });
        let said = verb_ok(&server.data_dir, &["backup", saved]);
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
        said
    });
    assert!(said.contains("keys, 2 artifacts of"), "{said}");
    assert!(said.ends_with("every checksum verified"), "{said}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let beside: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("saved"))
        .collect();
    assert_eq!(beside, ["saved"], "nothing is left beside it");
    let again = refused(&server.data_dir, &["backup", saved]);
    assert!(again.contains("exists already"), "{again}");
    verb_ok(&server.data_dir, &["backup", saved, "--force"]);
    assert_eq!(preauthorize(&server, &token, "after"), Some(201));
    let all = device_names(&server, &token).len();

    // Not under the running server, and not over data without being told to.
    let data_dir = server.data_dir.clone();
    let not_empty = refused(&data_dir, &["restore", saved]);
    assert!(
        not_empty.contains("is not empty; give --force"),
        "{not_empty}"
    );
    let in_use = refused(&data_dir, &["restore", saved, "--force"]);
    assert!(
        in_use.contains("is in use by another ambidex-server serve"),
        "{in_use}"
    );
    assert_eq!(server.stop(), Some(0));

    // Into a fresh place: the keys came along, so that the old token counts.
    let fresh = dir.path().join("fresh");
    let said = verb_ok(&fresh.join("data"), &["restore", saved]);
    assert!(said.starts_with("restored a database of "), "{said}");
    let copy = Instance::start(&fresh, &[]);
    let names = device_names(&copy, &token);
    assert_eq!(names.len(), all - 1);
    assert!((0..20).all(|n| names.contains(&format!("before-{n}"))));
    for (id, name) in ids.iter().zip(["one", "two"]) {
        assert_eq!(download(&copy, &token, id), artifact(name));
    }
    assert_eq!(copy.login(EMAIL, PASSWORD).status, 200);
    drop(copy);

    // Over the old one: in its place, and the old one kept.
    let said = verb_ok(&data_dir, &["restore", saved, "--force"]);
    let kept = said.rsplit(' ').next().unwrap();
    assert!(Path::new(kept).join("server.db").exists(), "{said}");
    let back = Instance::start(dir.path(), &[]);
    assert_eq!(device_names(&back, &token).len(), all - 1);
    let mode = std::fs::metadata(&data_dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_is_damaged_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    let token = server.token();
    upload(&server, &token, "one");
    let saved = dir.path().join("saved");
    verb_ok(&server.data_dir, &["backup", saved.to_str().unwrap()]);
    let whole = verb_ok(
        &server.data_dir,
        &["restore", "--check", saved.to_str().unwrap()],
    );
    assert!(whole.contains(" is whole: a database of "), "{whole}");
    let good = std::fs::read(&saved).unwrap();
    let target = dir.path().join("target");
    let bad = dir.path().join("bad");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for content in [
        &good[..good.len() - 1],
        &good[..good.len() / 2],
        &flipped,
        b"something else",
        b"",
    ] {
        std::fs::write(&bad, content).unwrap();
        let bad = bad.to_str().unwrap();
        for arguments in [&["restore", bad][..], &["restore", "--check", bad]] {
            let text = refused(&target, arguments);
            assert!(text.contains("cannot be read"), "{text}");
        }
        assert!(!target.exists(), "nothing was restored");
    }
    let names = std::fs::read_dir(dir.path()).unwrap();
    for name in names.map(|entry| entry.unwrap().file_name()) {
        let name = name.to_str().unwrap();
        assert!(!name.contains("restore"), "{name} is left");
    }
    // A file that only looks like one of ours: an entry outside of its place.
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 0).unwrap());
    let about = br#"{"format":1,"version":"0","created":"2026-01-01T00:00:00Z"}"#;
    for (path, content) in [("ambidex-backup.json", &about[..]), ("keys/.hidden", b"x")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
    }
    std::fs::write(&bad, tar.into_inner().unwrap().finish().unwrap()).unwrap();
    let text = refused(&target, &["restore", bad.to_str().unwrap()]);
    assert!(text.contains("does not belong into a backup"), "{text}");
    assert!(!target.exists());
    let nothing = refused(
        &dir.path().join("nowhere"),
        &["backup", "/tmp/never-written"],
    );
    assert!(nothing.contains("there is no database at"), "{nothing}");
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn migrate_says_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = verb_ok(&data, &["migrate"]);
    assert!(
        first.lines().any(|line| line == "devauth 1: init"),
        "{first}"
    );
    assert!(first.ends_with("steps were applied"), "{first}");
    let second = verb_ok(&data, &["migrate"]);
    assert_eq!(second.lines().count(), 1);
    assert!(
        second.ends_with("is up to date: nothing was to be done"),
        "{second}"
    );
}
