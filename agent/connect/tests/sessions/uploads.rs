//! Uploads.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use ambidex_wire::session::{Message, PROTO_FILE, control, file};

use crate::peer::{Peer, eventually};

const SID: &str = "22222222-2222-3333-4444-555555555555";

fn put(path: &Path) -> file::PutFile {
    file::PutFile {
        path: path.display().to_string(),
        ..file::PutFile::default()
    }
}

async fn begin(peer: &mut Peer, put: &file::PutFile) {
    peer.send(put.message(SID)).await;
    let ack = peer.message().await;
    assert_eq!(ack.typ, file::ACK, "{:?}", file::Failure::decode(&ack.body));
    assert_eq!(ack.props.offset(), Some(0));
}

async fn failure(peer: &mut Peer) -> String {
    let answer = peer.until(PROTO_FILE, file::ERROR).await;
    file::Failure::decode(&answer.body).unwrap().err
}

/// Sends everything in the reference's window and returns the offsets of all acknowledgements.
async fn upload(peer: &mut Peer, put: &file::PutFile, content: &[u8]) -> Vec<u64> {
    begin(peer, put).await;
    let mut acks = vec![0];
    let mut sent = 0;
    for chunk in content.chunks(4096) {
        while sent >= acks.last().unwrap() + 20 * 4096 {
            acks.push(
                peer.until(PROTO_FILE, file::ACK)
                    .await
                    .props
                    .offset()
                    .unwrap(),
            );
        }
        peer.send(file::chunk(SID, sent, chunk)).await;
        sent += chunk.len() as u64;
    }
    peer.send(file::chunk(SID, sent, b"")).await;
    while *acks.last().unwrap() < sent || (sent == 0 && acks.len() < 2) {
        acks.push(
            peer.until(PROTO_FILE, file::ACK)
                .await
                .props
                .offset()
                .unwrap(),
        );
    }
    acks
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|n| u8::try_from(n * n % 251).unwrap())
        .collect()
}

/// CN-17, CN-18.
#[tokio::test]
async fn a_file_appears_whole_under_its_name() {
    let mut peer = Peer::start().await;
    let folder = peer.path("target");
    std::fs::create_dir(&folder).unwrap();
    for bytes in [0, 1, 4096, 500_000] {
        let acks = upload(&mut peer, &put(&folder.join("f")), &content(bytes)).await;
        // the beginning of chunks, until the end: nobody may think it is over before it is
        let (last, others) = acks.split_last().unwrap();
        assert_eq!(*last, bytes as u64);
        assert!(
            others
                .iter()
                .all(|ack| ack % 4096 == 0 && (*ack < bytes as u64 || bytes == 0)),
            "{acks:?}"
        );
        assert_eq!(
            names(&folder),
            ["f"],
            "at the moment of the last acknowledgement"
        );
        assert_eq!(std::fs::read(folder.join("f")).unwrap(), content(bytes));
    }
    let mode = std::fs::metadata(folder.join("f"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o644);
    // before that it is there under a name that nobody looks for, readable by nobody else
    begin(&mut peer, &put(&folder.join("g"))).await;
    let hidden = names(&folder).remove(0);
    assert!(hidden.starts_with(".ambidex-upload-"), "{hidden}");
    let mode = std::fs::metadata(folder.join(&hidden))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// CN-17.
#[tokio::test]
async fn a_wrong_offset_ends_the_upload_and_leaves_nothing() {
    let mut peer = Peer::start().await;
    let folder = peer.path("target");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("f"), "old").unwrap();
    begin(&mut peer, &put(&folder.join("f"))).await;
    peer.send(file::chunk(SID, 0, b"new")).await;
    peer.send(file::chunk(SID, 4, b"wrong")).await;
    peer.send(file::chunk(SID, 9, b"late")).await;
    let error = failure(&mut peer).await;
    assert!(
        error.contains("byte 4") && error.contains("byte 3"),
        "{error}"
    );
    eventually("nothing is left", || names(&folder) == ["f"]).await;
    assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "old");
    peer.send(Message::new(PROTO_FILE, file::CHUNK, SID).body("x"))
        .await;
    // the session is ready for another one
    eventually("the records are gone", || {
        names(&peer.path("state/uploads")).is_empty()
    })
    .await;
    upload(&mut peer, &put(&folder.join("f")), b"new").await;
    assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "new");
}

/// Every way to leave in the middle, and a kill.
#[tokio::test]
async fn nothing_half_done_stays() {
    let mut peer = Peer::start().await;
    let folder = peer.path("target");
    std::fs::create_dir(&folder).unwrap();
    for close in [
        control::close(SID),
        control::Failure::closing("x").message(SID),
        file::Failure::default().message(SID),
    ] {
        begin(&mut peer, &put(&folder.join("f"))).await;
        peer.send(file::chunk(SID, 0, b"half")).await;
        peer.send(close).await;
        eventually("nothing is left", || names(&folder).is_empty()).await;
    }
    begin(&mut peer, &put(&folder.join("f"))).await;
    let records = peer.path("state/uploads");
    let record = names(&records).remove(0);
    // what a kill leaves: the file and its record
    let kept = std::fs::read(records.join(&record)).unwrap();
    let remote = peer.remote.clone();
    let (_, dir) = peer.cut().await;
    eventually("nothing is left", || {
        names(&folder).is_empty() && names(&records).is_empty()
    })
    .await;
    std::fs::write(records.join(&record), kept).unwrap();
    std::fs::write(folder.join(&record), "half").unwrap();
    std::fs::write(folder.join("other"), "whole").unwrap();
    remote.clean_up();
    assert_eq!(names(&folder), ["other"]);
    assert!(names(&records).is_empty());
    drop(dir);
}

#[tokio::test]
async fn owner_and_mode_are_those_asked_for_or_kept() {
    let mut peer = Peer::start().await;
    let at = peer.path("f");
    let mut asked = put(&at);
    asked.mode = Some(0o600);
    upload(&mut peer, &asked, b"x").await;
    assert_eq!(std::fs::metadata(&at).unwrap().mode() & 0o7777, 0o600);
    // what is replaced stays as it was
    upload(&mut peer, &put(&at), b"y").await;
    assert_eq!(std::fs::metadata(&at).unwrap().mode() & 0o7777, 0o600);
    if ambidex_platform::account::is_root() {
        (asked.uid, asked.gid) = (Some(1), Some(2));
        upload(&mut peer, &asked, b"z").await;
        let found = std::fs::metadata(&at).unwrap();
        assert_eq!((found.uid(), found.gid()), (1, 2));
        upload(&mut peer, &put(&at), b"kept").await;
        let found = std::fs::metadata(&at).unwrap();
        assert_eq!((found.uid(), found.gid()), (1, 2));
    }
}

/// CN-23.
#[tokio::test]
async fn no_file_is_stored_that_runs_as_somebody_else() {
    let mut peer = Peer::start().await;
    let mut asked = put(&peer.path("f"));
    for mode in [0o4755, 0o2755, 0x0080_0000 | 0o755] {
        asked.mode = Some(mode);
        peer.send(asked.message(SID)).await;
        let error = failure(&mut peer).await;
        assert!(error.contains("allow_suid"), "{error}");
    }
    assert!(!peer.path("f").exists());
    let mut peer = Peer::with(|settings| settings.file_transfer.limits.allow_suid = true).await;
    asked.path = peer.text("f");
    asked.mode = Some(0o4755);
    upload(&mut peer, &asked, b"x").await;
    assert_eq!(
        std::fs::metadata(peer.path("f")).unwrap().mode() & 0o7777,
        0o4755
    );
}

#[tokio::test]
async fn sizes_and_bytes_a_minute_are_limited() {
    let mut peer = Peer::with(|settings| {
        let limits = &mut settings.file_transfer.limits;
        limits.enabled = true;
        limits.allow_overwrite = true;
        limits.max_file_size = 10_000;
        limits.rx_bytes_per_minute = 25_000;
    })
    .await;
    let at = peer.path("f");
    let mut told = put(&at);
    told.size = Some(10_001);
    peer.send(told.message(SID)).await;
    assert!(failure(&mut peer).await.contains("max_file_size"));
    // exactly the limit is allowed
    upload(&mut peer, &put(&at), &content(10_000)).await;
    begin(&mut peer, &put(&at)).await;
    for (offset, bytes) in [(0, 9000), (9000, 1001)] {
        peer.send(file::chunk(SID, offset, &content(bytes))).await;
    }
    assert!(failure(&mut peer).await.contains("max_file_size"));
    eventually("only the file", || {
        !names(peer.dir.path())
            .iter()
            .any(|n| n.starts_with(".ambidex"))
    })
    .await;
    eventually("no record", || {
        names(&peer.path("state/uploads")).is_empty()
    })
    .await;
    begin(&mut peer, &put(&at)).await;
    peer.send(file::chunk(SID, 0, &content(7000))).await;
    assert!(failure(&mut peer).await.contains("max_bytes_rx_per_minute"));
    assert_eq!(std::fs::read(&at).unwrap(), content(10_000));
}

#[tokio::test]
async fn mistakes_are_one_error_each() {
    let mut peer = Peer::start().await;
    peer.send(file::chunk(SID, 0, b"x")).await;
    assert!(failure(&mut peer).await.contains("no file"));
    for path in [
        "relative".into(),
        peer.path("no/such/folder"),
        peer.path("."),
        "/dev/null".into(),
    ] {
        peer.send(put(&path).message(SID)).await;
        let answer = peer.message().await;
        assert_eq!(answer.typ, file::ERROR, "{path:?}");
        assert!(peer.quiet(SID).await.is_empty(), "{path:?}");
    }
    peer.send(Message::new(PROTO_FILE, file::PUT, SID).body("x"))
        .await;
    failure(&mut peer).await;
    peer.send(Message::new(PROTO_FILE, "burn_file", SID)).await;
    failure(&mut peer).await;
    if !ambidex_platform::account::is_root() {
        return;
    }
    let mut asked = put(&peer.path("f"));
    asked.size = Some(u64::MAX / 4);
    peer.send(asked.message(SID)).await;
    assert!(failure(&mut peer).await.contains("room"));
}
