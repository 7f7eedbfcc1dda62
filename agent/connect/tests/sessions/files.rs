//! Downloads and what is known of files.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use ambidex_wire::session::{Message, PROTO_FILE, file};

use crate::peer::Peer;

const SID: &str = "22222222-2222-3333-4444-555555555555";

fn ask(typ: &str, path: &Path) -> Message {
    let path = path.display().to_string();
    file::Path { path }.message(typ, SID).prop("user_id", "u1")
}

async fn failure(peer: &mut Peer) -> String {
    let answer = peer.until(PROTO_FILE, file::ERROR).await;
    assert_eq!(answer.sid, SID);
    assert_eq!(
        answer.props.text("user_id"),
        Some("u1"),
        "the request's properties"
    );
    let failure = file::Failure::decode(&answer.body).unwrap();
    assert!(failure.msgtype.is_some());
    failure.err
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|n| u8::try_from(n * n % 251).unwrap())
        .collect()
}

/// Chunks until the window is full, then the rest for acknowledgements.
async fn download(peer: &mut Peer, ask_for: Message, chunk_bytes: usize, wanted: &[u8]) {
    peer.send(ask_for).await;
    let mut received = Vec::new();
    let mut chunks = 0;
    loop {
        let chunk = peer.message().await;
        assert_eq!(chunk.typ, file::CHUNK, "{chunk:?}");
        assert_eq!(chunk.props.offset(), Some(received.len() as u64));
        if chunk.body.is_empty() {
            break;
        }
        let left = wanted.len() - received.len();
        assert_eq!(chunk.body.len(), left.min(chunk_bytes));
        received.extend_from_slice(&chunk.body);
        chunks += 1;
        if chunks % 20 == 0 {
            assert!(peer.quiet(SID).await.is_empty(), "more than the window");
            peer.send(file::ack(SID, received.len() as u64)).await;
        }
    }
    assert_eq!(received, wanted);
    peer.send(file::ack(SID, received.len() as u64)).await;
    // the session is ready for the next one
    while !peer.quiet(SID).await.is_empty() {}
}

/// CN-16, CN-06.
#[tokio::test]
async fn a_download_keeps_to_the_window() {
    let mut peer = Peer::start().await;
    for bytes in [0, 1, 4096, 81_920, 100_000] {
        std::fs::write(peer.path("f"), content(bytes)).unwrap();
        let ask = ask(file::GET, &peer.path("f"));
        download(&mut peer, ask, 4096, &content(bytes)).await;
    }
    // larger pieces for those who ask, and never more than servers can carry
    std::fs::write(peer.path("f"), content(1_000_000)).unwrap();
    for (asked, got) in [
        (16_384, 16_384),
        (1 << 20, 16_384),
        (5000, 5000),
        (1, 4096),
        (-1, 4096),
    ] {
        let ask = ask(file::GET, &peer.path("f")).prop(file::CHUNK_BYTES_WANTED, asked);
        download(&mut peer, ask, got, &content(1_000_000)).await;
    }
}

/// CN-06: 64 bits, always.
#[tokio::test]
async fn offsets_are_written_in_full() {
    let mut peer = Peer::start().await;
    std::fs::write(peer.path("f"), "hello.").unwrap();
    peer.send(ask(file::GET, &peer.path("f"))).await;
    let captured = b"\xa6offset\xd3\0\0\0\0\0\0\0\0";
    let bytes = peer.bytes().await;
    assert!(
        bytes.windows(captured.len()).any(|w| w == captured),
        "{bytes:?}"
    );
}

#[tokio::test]
async fn a_download_can_be_given_up_and_another_one_begins() {
    let mut peer = Peer::start().await;
    std::fs::write(peer.path("f"), content(500_000)).unwrap();
    peer.send(ask(file::GET, &peer.path("f"))).await;
    peer.until(PROTO_FILE, file::CHUNK).await;
    peer.send(ask(file::GET, &peer.path("f"))).await;
    assert_eq!(
        failure(&mut peer).await,
        "another file transfer is in progress"
    );
    let error = file::Failure {
        err: "enough".to_owned(),
        ..file::Failure::default()
    };
    peer.send(error.message(SID)).await;
    while !peer.quiet(SID).await.is_empty() {}
    std::fs::write(peer.path("g"), "x").unwrap();
    peer.send(ask(file::GET, &peer.path("g"))).await;
    let chunk = peer.until(PROTO_FILE, file::CHUNK).await;
    assert_eq!(chunk.body, b"x");
    // an acknowledgement without a place
    peer.send(Message::new(PROTO_FILE, file::ACK, SID).prop("user_id", "u1"))
        .await;
    assert!(failure(&mut peer).await.contains("offset"));
}

#[tokio::test]
async fn what_is_known_of_a_file() {
    let mut peer = Peer::start().await;
    std::fs::write(peer.path("f"), content(777)).unwrap();
    std::fs::set_permissions(peer.path("f"), std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink(peer.path("f"), peer.path("link")).unwrap();
    let found = std::fs::metadata(peer.path("f")).unwrap();
    for name in ["f", "link"] {
        peer.send(ask(file::STAT, &peer.path(name))).await;
        let answer = peer.until(PROTO_FILE, file::INFO).await;
        let info = file::FileInfo::decode(&answer.body).unwrap();
        assert_eq!(info.size, Some(777));
        assert_eq!((info.uid, info.gid), (Some(found.uid()), Some(found.gid())));
        assert_eq!(info.mode, Some(0o640));
        assert_eq!(info.modtime.unwrap().seconds, found.mtime());
        assert_eq!(info.path, peer.text(name));
    }
    peer.send(ask(file::STAT, &peer.path("."))).await;
    let answer = peer.until(PROTO_FILE, file::INFO).await;
    assert!(!file::FileInfo::decode(&answer.body).unwrap().is_file());
    for bad in [peer.path("absent"), "relative".into(), peer.path("f/g")] {
        peer.send(ask(file::STAT, &bad)).await;
        failure(&mut peer).await;
    }
}

#[tokio::test]
async fn only_plain_files_are_sent() {
    let mut peer = Peer::start().await;
    nix::unistd::mkfifo(&peer.path("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    for (path, wanted) in [
        (peer.path("."), "directory"),
        (peer.path("fifo"), "regular"),
        ("/dev/null".into(), "regular"),
        (peer.path("absent"), "No such file"),
    ] {
        peer.send(ask(file::GET, &path)).await;
        let error = failure(&mut peer).await;
        assert!(error.contains(wanted), "{error}");
    }
}

/// CN-22.
#[tokio::test]
async fn nothing_leads_out_of_the_confinement() {
    for links in [false, true] {
        let mut peer = Peer::with(|settings| {
            let root = settings.state.with_file_name("in");
            for (path, text) in [("in/a", "a"), ("in-side/secret", "s"), ("secret", "s")] {
                let path = root.with_file_name(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            symlink("../secret", root.join("bad")).unwrap();
            symlink(root.with_file_name("secret"), root.join("absolute")).unwrap();
            symlink("a", root.join("good")).unwrap();
            let limits = &mut settings.file_transfer.limits;
            limits.enabled = true;
            limits.allow_overwrite = true;
            limits.follow_symlinks = links;
            limits.chroot = Some(root);
        })
        .await;
        for bad in [
            "in-side/secret",
            "secret",
            "in/../secret",
            "in/bad",
            "in/absolute",
        ] {
            for typ in [file::STAT, file::GET] {
                let ask = ask(typ, &peer.path(bad));
                peer.send(ask).await;
                let error = failure(&mut peer).await;
                assert!(
                    error.contains("leads out") || error.contains("link"),
                    "{bad}: {error}"
                );
            }
            let put = file::PutFile {
                path: peer.text(bad),
                ..file::PutFile::default()
            };
            peer.send(put.message(SID).prop("user_id", "u1")).await;
            failure(&mut peer).await;
        }
        assert_eq!(std::fs::read_to_string(peer.path("secret")).unwrap(), "s");
        peer.send(ask(file::STAT, &peer.path("in/a"))).await;
        peer.until(PROTO_FILE, file::INFO).await;
        peer.send(ask(file::STAT, &peer.path("in/good"))).await;
        if links {
            peer.until(PROTO_FILE, file::INFO).await;
        } else {
            failure(&mut peer).await;
        }
    }
}

#[tokio::test]
async fn owners_sizes_and_bytes_a_minute_are_limited() {
    let mut peer = Peer::with(|settings| {
        let limits = &mut settings.file_transfer.limits;
        limits.enabled = true;
        limits.max_file_size = 1000;
        limits.tx_bytes_per_minute = 1500;
    })
    .await;
    std::fs::write(peer.path("f"), content(1001)).unwrap();
    peer.send(ask(file::GET, &peer.path("f"))).await;
    assert!(failure(&mut peer).await.contains("max_file_size"));
    std::fs::write(peer.path("f"), content(1000)).unwrap();
    let ask_for = ask(file::GET, &peer.path("f"));
    download(&mut peer, ask_for.clone(), 4096, &content(1000)).await;
    // of all sessions together
    peer.send(Message {
        sid: SID.replace('2', "3"),
        ..ask_for
    })
    .await;
    let answer = peer.until(PROTO_FILE, file::ERROR).await;
    let error = file::Failure::decode(&answer.body).unwrap().err;
    assert!(error.contains("max_bytes_tx_per_minute"), "{error}");

    let mut peer = Peer::with(|settings| {
        let limits = &mut settings.file_transfer.limits;
        limits.enabled = true;
        limits.owner_get = vec!["no-such-user".to_owned()];
    })
    .await;
    std::fs::write(peer.path("f"), "x").unwrap();
    peer.send(ask(file::GET, &peer.path("f"))).await;
    assert!(failure(&mut peer).await.contains("owner_get"));
}
