//! Transfers that go on where an earlier one was cut.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use ambidex_wire::session::{Message, PROTO_FILE, control, file};
use sha2::{Digest as _, Sha256};

use crate::peer::{Peer, eventually};

const SID: &str = "22222222-2222-3333-4444-555555555555";
const OTHER: &str = "33333333-2222-3333-4444-555555555555";

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|n| u8::try_from(n * n % 251).unwrap())
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn failure(peer: &mut Peer) -> String {
    let answer = peer.until(PROTO_FILE, file::ERROR).await;
    file::Failure::decode(&answer.body).unwrap().err
}

/// Downloads with `prefix` in hand; where the content began, and it.
async fn download(peer: &mut Peer, path: &Path, prefix: &[u8]) -> (u64, Vec<u8>) {
    let ask = file::Path {
        path: path.display().to_string(),
    };
    let ask = ask
        .message(file::GET, SID)
        .prop(file::RESUME_FROM, prefix.len() as u64)
        .prop(file::SHA256, sha256(prefix).as_str());
    peer.send(ask).await;
    let ack = peer.message().await;
    assert_eq!(ack.typ, file::ACK, "{ack:?}");
    let begin = ack.props.offset().unwrap();
    let mut received = Vec::new();
    loop {
        let chunk = peer.message().await;
        let offset = begin + received.len() as u64;
        assert_eq!(chunk.typ, file::CHUNK, "{chunk:?}");
        assert_eq!(chunk.props.offset(), Some(offset));
        received.extend_from_slice(&chunk.body);
        let done = begin + received.len() as u64;
        peer.send(file::ack(SID, done)).await;
        if chunk.body.is_empty() {
            let all = std::fs::read(path).unwrap();
            assert_eq!(chunk.props.text(file::SHA256), Some(&*sha256(&all)));
            while !peer.quiet(SID).await.is_empty() {}
            return (begin, received);
        }
    }
}

#[tokio::test]
async fn a_download_goes_on_where_both_sides_have_the_same() {
    let mut peer = Peer::start().await;
    let (path, all) = (peer.path("f"), content(700_000));
    std::fs::write(&path, &all).unwrap();
    for begin in [0, 1, 300_001, all.len()] {
        let got = download(&mut peer, &path, &all[..begin]).await;
        assert_eq!(got, (begin as u64, all[begin..].to_vec()), "{begin}");
    }
    // another beginning, and more than there is
    let mut other = all[..5000].to_vec();
    other[4000] ^= 1;
    let longer = [&all[..], b"x"].concat();
    for prefix in [&other, &longer] {
        assert_eq!(download(&mut peer, &path, prefix).await, (0, all.clone()));
    }
}

struct Upload {
    put: file::PutFile,
    all: Vec<u8>,
}

impl Upload {
    fn new(path: PathBuf, bytes: usize) -> Upload {
        let put = file::PutFile {
            path: path.display().to_string(),
            size: Some(bytes as u64),
            mode: Some(0o640),
            ..file::PutFile::default()
        };
        let all = content(bytes);
        Upload { put, all }
    }

    fn message(&self, sid: &str) -> Message {
        self.put
            .message(sid)
            .prop(file::RESUME_KEY, sha256(&self.all).as_str())
    }

    /// Announces it; how much is there already.
    async fn begin(&self, peer: &mut Peer, sid: &str) -> usize {
        peer.send(self.message(sid)).await;
        let ack = peer.until(PROTO_FILE, file::ACK).await;
        let there = usize::try_from(ack.props.offset().unwrap()).unwrap();
        let told = ack.props.text(file::SHA256).unwrap();
        assert_eq!(told, sha256(&self.all[..there]));
        there
    }

    /// Sends a part, and waits until the device has it.
    async fn send(&self, peer: &mut Peer, sid: &str, from: usize, to: usize) {
        for (number, chunk) in self.all[from..to].chunks(4096).enumerate() {
            let at = from + number * 4096;
            peer.send(file::chunk(sid, at as u64, chunk)).await;
            loop {
                let ack = peer.until(PROTO_FILE, file::ACK).await;
                if ack.props.offset() == Some(at as u64) {
                    break;
                }
            }
        }
    }

    async fn end(&self, peer: &mut Peer, sid: &str) {
        let size = self.all.len() as u64;
        let end = file::chunk(sid, size, b"").prop(file::SHA256, sha256(&self.all).as_str());
        peer.send(end).await;
        let ack = peer.until(PROTO_FILE, file::ACK).await;
        assert_eq!(ack.props.offset(), Some(size));
        let path = Path::new(&self.put.path);
        assert_eq!(std::fs::read(path).unwrap(), self.all);
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o640);
    }
}

fn folder(peer: &Peer) -> PathBuf {
    let folder = peer.path("target");
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[tokio::test]
async fn an_upload_goes_on_in_another_session() {
    let mut peer = Peer::start().await;
    let folder = folder(&peer);
    let upload = Upload::new(folder.join("f"), 200_000);
    assert_eq!(upload.begin(&mut peer, SID).await, 0);
    upload.send(&mut peer, SID, 0, 120_000).await;
    peer.send(control::close(SID)).await;
    // it waits, hidden, for nobody else to read
    let hidden = names(&folder).remove(0);
    assert!(hidden.starts_with(".ambidex-resume-"), "{hidden}");
    let mode = std::fs::metadata(folder.join(&hidden)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    // the same content to another place, and another content to the same, have nothing to do with it
    for other in [
        Upload::new(folder.join("g"), 200_000),
        Upload::new(folder.join("f"), 150_000),
    ] {
        assert_eq!(other.begin(&mut peer, OTHER).await, 0);
        peer.send(file::Failure::default().message(OTHER)).await;
    }
    assert_eq!(upload.begin(&mut peer, OTHER).await, 120_000);
    upload.send(&mut peer, OTHER, 120_000, 200_000).await;
    upload.end(&mut peer, OTHER).await;
    eventually("nothing else is left", || names(&folder) == ["f"]).await;
    eventually("the records are gone", || {
        names(&peer.path("state/uploads")).is_empty()
    })
    .await;
    // nothing is missing but the end
    let third = "s3";
    assert_eq!(upload.begin(&mut peer, third).await, 0);
    upload.send(&mut peer, third, 0, 200_000).await;
    peer.send(control::close(third)).await;
    assert_eq!(upload.begin(&mut peer, OTHER).await, 200_000);
    upload.end(&mut peer, OTHER).await;
}

/// The device has not noticed yet that the first connection of the user is lost.
#[tokio::test]
async fn who_comes_last_gets_the_upload_from_an_idle_session() {
    let mut peer = Peer::start().await;
    let folder = folder(&peer);
    let upload = Upload::new(folder.join("f"), 50_000);
    assert_eq!(upload.begin(&mut peer, SID).await, 0);
    upload.send(&mut peer, SID, 0, 20_000).await;
    peer.send(upload.message(OTHER)).await;
    let error = failure(&mut peer).await;
    assert!(error.contains("another session"), "{error}");
    let ack = peer.until(PROTO_FILE, file::ACK).await;
    assert_eq!(ack.props.offset(), Some(20_000));
    upload.send(&mut peer, OTHER, 20_000, 50_000).await;
    upload.end(&mut peer, OTHER).await;
    assert_eq!(names(&folder), ["f"]);
}

#[tokio::test]
async fn content_that_is_not_what_was_sent_gets_no_name() {
    let mut peer = Peer::start().await;
    let folder = folder(&peer);
    std::fs::write(folder.join("f"), "old").unwrap();
    let upload = Upload::new(folder.join("f"), 9000);
    let mut changed = Upload::new(folder.join("f"), 9000);
    changed.all[8999] ^= 1;
    assert_eq!(upload.begin(&mut peer, SID).await, 0);
    changed.send(&mut peer, SID, 0, 9000).await;
    let end = file::chunk(SID, 9000, b"");
    peer.send(end.prop(file::SHA256, sha256(&upload.all).as_str()))
        .await;
    let error = failure(&mut peer).await;
    assert!(error.contains(&sha256(&upload.all)), "{error}");
    eventually("only the old file", || names(&folder) == ["f"]).await;
    assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "old");
    // what was given up is not kept either
    upload.begin(&mut peer, SID).await;
    upload.send(&mut peer, SID, 0, 5000).await;
    peer.send(file::Failure::default().message(SID)).await;
    eventually("only the old file", || names(&folder) == ["f"]).await;
    assert_eq!(upload.begin(&mut peer, SID).await, 0);
}

/// Somebody who owns the directory knows the name, and puts something else there.
#[tokio::test]
async fn nothing_leads_away_from_an_unfinished_file() {
    let mut peer = Peer::start().await;
    let folder = folder(&peer);
    let secret = peer.path("secret");
    std::fs::write(&secret, "secret").unwrap();
    let upload = Upload::new(folder.join("f"), 10_000);
    upload.begin(&mut peer, SID).await;
    upload.send(&mut peer, SID, 0, 5000).await;
    peer.send(control::close(SID)).await;
    let hidden = folder.join(names(&folder).remove(0));
    for (number, plant) in [
        (|secret: &Path, at: &Path| symlink(secret, at)) as fn(&Path, &Path) -> _,
        |secret, at| std::fs::hard_link(secret, at),
        |_, at| std::fs::write(at, "readable by all"),
        |_, at| nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).map_err(Into::into),
    ]
    .into_iter()
    .enumerate()
    {
        let sid = format!("s{number}");
        std::fs::remove_file(&hidden).unwrap();
        plant(&secret, &hidden).unwrap();
        assert_eq!(upload.begin(&mut peer, &sid).await, 0);
        upload.send(&mut peer, &sid, 0, 5000).await;
        peer.send(control::close(&sid)).await;
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    }
    assert_eq!(upload.begin(&mut peer, OTHER).await, 5000);
    upload.send(&mut peer, OTHER, 5000, 10_000).await;
    upload.end(&mut peer, OTHER).await;
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
}

#[tokio::test]
async fn limits_hold_for_what_is_continued() {
    let mut peer = Peer::with(|settings| {
        let limits = &mut settings.file_transfer.limits;
        limits.enabled = true;
        limits.max_file_size = 40_000;
        limits.rx_bytes_per_minute = 50_000;
    })
    .await;
    let folder = folder(&peer);
    let upload = Upload::new(folder.join("f"), 40_001);
    peer.send(upload.message(SID)).await;
    assert!(failure(&mut peer).await.contains("max_file_size"));
    let upload = Upload::new(folder.join("f"), 40_000);
    upload.begin(&mut peer, SID).await;
    upload.send(&mut peer, SID, 0, 30_000).await;
    peer.send(control::close(SID)).await;
    // what is there is not counted again, what comes is
    assert_eq!(upload.begin(&mut peer, OTHER).await, 30_000);
    upload.send(&mut peer, OTHER, 30_000, 40_000).await;
    peer.send(file::chunk(OTHER, 40_000, b"x")).await;
    assert!(failure(&mut peer).await.contains("max_file_size"));
    assert_eq!(upload.begin(&mut peer, OTHER).await, 0);
    let all = content(12_000);
    peer.send(file::chunk(OTHER, 0, &all)).await;
    assert!(failure(&mut peer).await.contains("max_bytes_rx_per_minute"));
    eventually("nothing is left", || names(&folder).is_empty()).await;
}

#[tokio::test]
async fn what_nobody_continues_is_removed() {
    let mut peer = Peer::start().await;
    let folder = folder(&peer);
    let upload = Upload::new(folder.join("f"), 10_000);
    upload.begin(&mut peer, SID).await;
    upload.send(&mut peer, SID, 0, 5000).await;
    peer.send(control::close(SID)).await;
    // neither a start of the agent nor a look ends its time early
    peer.remote.clean_up();
    peer.remote.sweep();
    assert_eq!(upload.begin(&mut peer, OTHER).await, 5000);
    peer.send(control::close(OTHER)).await;
    // with less patience
    let third = "s3";
    peer.send(upload.message(third).prop(file::KEEP_SECONDS, 0_u64))
        .await;
    peer.until(PROTO_FILE, file::ACK).await;
    peer.send(control::close(third)).await;
    let remote = peer.remote.clone();
    eventually("it is gone", || {
        remote.sweep();
        names(&folder).is_empty()
    })
    .await;
    assert!(names(&peer.path("state/uploads")).is_empty());
}
