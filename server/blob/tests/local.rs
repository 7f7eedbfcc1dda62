//! The file store: visibility, ranges, leftovers, errors.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use ambidex_blob::{BlobError, Blobs};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

const SECRET: [u8; 32] = [1; 32];

async fn read(blobs: &Blobs, key: &str, range: Option<std::ops::Range<u64>>) -> Vec<u8> {
    let (_, content) = blobs.get(key, range).await.unwrap();
    let pieces: Vec<Bytes> = content.try_collect().await.unwrap();
    assert!(
        pieces.iter().all(|piece| piece.len() <= 256 * 1024),
        "pieces are small"
    );
    pieces.concat()
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn an_object_appears_whole_at_commit() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path(), SECRET).unwrap();
    let content = sample(1_000_003);
    let mut upload = blobs.put_begin("tenant/one").await.unwrap();
    for piece in content.chunks(65_537) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        assert!(!blobs.exists("tenant/one").await.unwrap());
    }
    assert_eq!(upload.written(), content.len() as u64);
    assert_eq!(upload.commit().await.unwrap(), content.len() as u64);
    assert_eq!(
        blobs.size("tenant/one").await.unwrap(),
        Some(content.len() as u64)
    );
    assert_eq!(read(&blobs, "tenant/one", None).await, content);

    // A second process start finds it; a new version replaces it in one step.
    let blobs = Blobs::local(dir.path(), SECRET).unwrap();
    let mut upload = blobs.put_begin("tenant/one").await.unwrap();
    upload.write(Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(read(&blobs, "tenant/one", None).await, content);
    upload.commit().await.unwrap();
    assert_eq!(read(&blobs, "tenant/one", None).await, b"new");
}

#[tokio::test]
async fn ranges_are_cut_to_the_object() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path(), SECRET).unwrap();
    let content = sample(600_000);
    let mut upload = blobs.put_begin("k").await.unwrap();
    upload.write(Bytes::from(content.clone())).await.unwrap();
    upload.commit().await.unwrap();
    for (range, wanted) in [
        (0..1, 0..1),
        (0..600_000, 0..600_000),
        (262_143..262_145, 262_143..262_145),
        (599_999..u64::MAX, 599_999..600_000),
        (5..5, 5..5),
    ] {
        let got = read(&blobs, "k", Some(range.clone())).await;
        assert!(got == content[wanted], "{range:?}");
    }
    let Err(BlobError::Range { start, size }) = blobs.get("k", Some(600_000..600_001)).await else {
        panic!("a range past the end must be refused");
    };
    assert_eq!((start, size), (600_000, 600_000));
}

#[tokio::test]
async fn unfinished_uploads_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = || {
        std::fs::read_dir(dir.path().join("uploads"))
            .unwrap()
            .count()
    };
    let blobs = Blobs::local(dir.path(), SECRET).unwrap();
    let mut upload = blobs.put_begin("k").await.unwrap();
    upload.write(Bytes::from(sample(300_000))).await.unwrap();
    assert_eq!(uploads(), 1);
    drop(upload);
    assert_eq!(uploads(), 0);
    assert!(!blobs.exists("k").await.unwrap());

    let mut upload = blobs.put_begin("k").await.unwrap();
    upload.write(Bytes::from(sample(300_000))).await.unwrap();
    std::mem::forget(upload); // as a crash would
    let blobs = Blobs::local(dir.path(), SECRET).unwrap();
    assert_eq!(uploads(), 1, "another process may still be writing it");
    blobs.remove_unfinished(0).await.unwrap();
    assert_eq!(uploads(), 0);
}

#[tokio::test]
async fn deleting_is_final_and_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path(), SECRET).unwrap();
    let mut upload = blobs.put_begin("a/b").await.unwrap();
    upload.write(Bytes::from_static(b"x")).await.unwrap();
    upload.commit().await.unwrap();
    let (_, open) = blobs.get("a/b", None).await.unwrap();
    blobs.delete("a/b").await.unwrap();
    blobs.delete("a/b").await.unwrap();
    assert!(matches!(
        blobs.get("a/b", None).await,
        Err(BlobError::NotFound(_))
    ));
    let pieces: Vec<Bytes> = open.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"x", "an open reader finishes");
    assert!(
        !blobs.exists("a").await.unwrap(),
        "a directory is not an object"
    );
    assert!(!blobs.exists("a/b/c").await.unwrap());
}

#[tokio::test]
async fn errors_name_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Blobs::local(&file.join("below"), SECRET)
        .unwrap_err()
        .to_string();
    assert!(error.contains("file/below"), "{error}");
    let blobs = Blobs::local(dir.path(), SECRET).unwrap();
    assert!(matches!(
        blobs.put_begin("../x").await,
        Err(BlobError::Key(_))
    ));
    blobs.ping().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("uploads")).unwrap();
    assert!(blobs.ping().await.is_err());
}
