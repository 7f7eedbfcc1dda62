//! Objects on a real S3 server that verifies every signature.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::time::{Duration, Instant};

use ambidex_blob::{BlobError, Blobs};
use ambidex_harness::s3::BUCKET;
use ambidex_harness::{S3, wait_for};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

const SECRET: [u8; 32] = [1; 32];
const SOON: Duration = Duration::from_secs(30);
const HOUR_MS: i64 = 60 * 60 * 1000;
/// Two whole parts and some.
const LARGE_BYTES: usize = (16 << 20) + 12_345;

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

async fn put(blobs: &Blobs, key: &str, content: &[u8]) {
    let mut upload = blobs.put_begin(key).await.unwrap();
    for piece in content.chunks(1_000_003) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(upload.written(), content.len() as u64);
    assert_eq!(upload.commit().await.unwrap(), content.len() as u64);
}

async fn read(blobs: &Blobs, key: &str, range: Option<std::ops::Range<u64>>) -> Vec<u8> {
    let (_, content) = blobs.get(key, range).await.unwrap();
    let pieces: Vec<Bytes> = content.try_collect().await.unwrap();
    assert!(pieces.iter().all(|piece| piece.len() <= 256 * 1024));
    pieces.concat()
}

async fn start(folder: &std::path::Path) -> Option<(S3, Blobs)> {
    let s3 = S3::start(folder).await.unwrap()?;
    let blobs = Blobs::s3(&s3.url().unwrap(), SECRET).unwrap();
    Some((s3, blobs))
}

#[tokio::test]
async fn an_object_appears_whole_at_commit() {
    let dir = tempfile::tempdir().unwrap();
    let Some((s3, blobs)) = start(dir.path()).await else {
        return;
    };
    assert!(blobs.is_shared());
    blobs.ping().await.unwrap();
    let content = sample(LARGE_BYTES);
    let mut upload = blobs.put_begin("tenant/one").await.unwrap();
    for piece in content.chunks(65_537) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert!(!blobs.exists("tenant/one").await.unwrap());
    assert!(
        s3.bucket_dir()
            .read_dir()
            .unwrap()
            .all(|e| e.unwrap().file_name() != "some")
    );
    assert_eq!(upload.commit().await.unwrap(), content.len() as u64);
    let meta = blobs.head("tenant/one").await.unwrap().unwrap();
    assert_eq!(meta.size, content.len() as u64);
    assert!((now_ms() - meta.modified_ms).abs() < HOUR_MS);
    assert!(read(&blobs, "tenant/one", None).await == content);
    assert_eq!(s3.unfinished(), 0);

    // A small one replaces it in one step.
    put(&blobs, "tenant/one", b"new").await;
    assert_eq!(read(&blobs, "tenant/one", None).await, b"new");
    put(&blobs, "empty", b"").await;
    assert_eq!(read(&blobs, "empty", None).await, b"");
    assert_eq!(blobs.usage().await.unwrap(), 3);
    blobs.delete("tenant/one").await.unwrap();
    blobs.delete("tenant/one").await.unwrap();
    assert!(!blobs.exists("tenant/one").await.unwrap());
    assert!(matches!(
        blobs.get("tenant/one", None).await,
        Err(BlobError::NotFound(_))
    ));
    assert!(matches!(
        blobs.put_begin("../x").await,
        Err(BlobError::Key(_))
    ));
}

#[tokio::test]
async fn ranges_are_cut_to_the_object() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_s3, blobs)) = start(dir.path()).await else {
        return;
    };
    let content = sample(600_000);
    put(&blobs, "k", &content).await;
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
    assert!(matches!(
        blobs.get("none", Some(0..1)).await,
        Err(BlobError::NotFound(_))
    ));
}

#[tokio::test]
async fn unfinished_uploads_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some((s3, blobs)) = start(dir.path()).await else {
        return;
    };
    let mut upload = blobs.put_begin("k").await.unwrap();
    upload
        .write(Bytes::from(sample(LARGE_BYTES)))
        .await
        .unwrap();
    assert_eq!(s3.unfinished(), 1);
    drop(upload);
    wait_for("the end of the upload", SOON, async || {
        Ok((s3.unfinished() == 0).then_some(()))
    })
    .await
    .unwrap();
    assert!(!blobs.exists("k").await.unwrap());

    let mut upload = blobs.put_begin("k").await.unwrap();
    upload
        .write(Bytes::from(sample(LARGE_BYTES)))
        .await
        .unwrap();
    std::mem::forget(upload); // as a crash would
    blobs
        .remove_unfinished(now_ms() + 47 * HOUR_MS)
        .await
        .unwrap();
    assert_eq!(
        s3.unfinished(),
        1,
        "another instance may still be writing it"
    );
    let elsewhere = s3.url().unwrap().replace("/some/prefix", "/some/pre");
    let neighbour = Blobs::s3(&elsewhere, SECRET).unwrap();
    neighbour
        .remove_unfinished(now_ms() + 49 * HOUR_MS)
        .await
        .unwrap();
    assert_eq!(s3.unfinished(), 1, "not theirs");
    blobs
        .remove_unfinished(now_ms() + 49 * HOUR_MS)
        .await
        .unwrap();
    assert_eq!(s3.unfinished(), 0);
}

#[tokio::test]
async fn an_outage_during_an_upload_leaves_no_object() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut s3, blobs)) = start(dir.path()).await else {
        return;
    };
    put(&blobs, "k", b"old").await;
    let mut upload = blobs.put_begin("k").await.unwrap();
    upload
        .write(Bytes::from(sample(LARGE_BYTES)))
        .await
        .unwrap();
    s3.kill().await.unwrap();
    let started = Instant::now();
    let error = blobs.ping().await.unwrap_err().to_string();
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "a health check answers soon"
    );
    assert!(
        error.contains(BUCKET) && error.contains("127.0.0.1"),
        "{error}"
    );
    let error = upload.commit().await.unwrap_err();
    assert!(matches!(error, BlobError::Unavailable(_)), "{error}");
    s3.restart().await.unwrap();
    blobs.ping().await.unwrap();
    assert_eq!(read(&blobs, "k", None).await, b"old");
    put(&blobs, "k", b"next").await;
    assert_eq!(read(&blobs, "k", None).await, b"next");
}

#[tokio::test]
async fn links_open_their_object_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let Some((s3, blobs)) = start(dir.path()).await else {
        return;
    };
    let content = sample(300_000);
    put(&blobs, "t/k", &content).await;
    put(&blobs, "t/other", b"secret").await;
    let http = reqwest::Client::new();
    let link =
        |lifetime_ms| blobs.download_link("http://us", "t/k", "a b\"c.mender", 0, lifetime_ms);
    let url = link(24 * HOUR_MS).await.unwrap();
    assert!(
        url.starts_with(&format!("{}/{BUCKET}/some/prefix/t/k?", s3.endpoint())),
        "{url}"
    );
    for part in [
        "X-Amz-Expires=86400",
        "response-content-type=application%2Fvnd.mender-artifact",
        "response-content-disposition=attachment%3B%20filename%3D%22a%20b_c.mender%22",
    ] {
        assert!(url.contains(part), "{part} in {url}");
    }
    let answer = http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-type"],
        "application/vnd.mender-artifact"
    );
    assert!(answer.bytes().await.unwrap() == content);
    let part = http
        .get(&url)
        .header("range", "bytes=100-199")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), 206);
    assert!(part.bytes().await.unwrap() == content[100..200]);

    for changed in [
        url.replace("t/k?", "t/other?"),
        url.replace("Expires=86400", "Expires=86401"),
        url.replace("c.mender", "d.mender"),
        url.split_once('?').unwrap().0.to_owned(),
    ] {
        let status = http.get(&changed).send().await.unwrap().status();
        assert_eq!(status, 403, "{changed}");
    }
    let status = http.put(&url).body("evil").send().await.unwrap().status();
    assert_eq!(status, 403, "another method");
    let short = link(1).await.unwrap();
    assert!(short.contains("X-Amz-Expires=1&"), "{short}");
    wait_for("the end of the link", SOON, async || {
        let status = http.get(&short).send().await?.status();
        Ok((status == 403).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_upload_link_takes_one_object_from_a_client_without_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_s3, blobs)) = start(dir.path()).await else {
        return;
    };
    let http = reqwest::Client::new();
    let content = sample(3 << 20);
    let url = blobs
        .upload_link("http://us", "t/direct", 0, HOUR_MS)
        .await
        .unwrap();
    let answer = http.put(&url).body(content.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(read(&blobs, "t/direct", None).await == content);
    assert_eq!(http.get(&url).send().await.unwrap().status(), 403);
    let elsewhere = url.replace("t/direct", "t/k");
    assert_eq!(
        http.put(&elsewhere)
            .body("x")
            .send()
            .await
            .unwrap()
            .status(),
        403
    );
}

#[tokio::test]
async fn links_may_lead_to_another_address_or_to_us() {
    let dir = tempfile::tempdir().unwrap();
    let Some((s3, _)) = start(dir.path()).await else {
        return;
    };
    let with =
        |option: &str| Blobs::s3(&format!("{}&{option}", s3.url().unwrap()), SECRET).unwrap();
    let outside = with("public_endpoint=https://s3.example.com:8443/");
    let url = outside
        .download_link("http://us", "k", "k.mender", 0, HOUR_MS)
        .await
        .unwrap();
    assert!(
        url.starts_with("https://s3.example.com:8443/artifacts/some/prefix/k?"),
        "{url}"
    );
    let hosts = with("public_endpoint=https://s3.example.com&virtual_hosts=true");
    let url = hosts
        .upload_link("http://us", "k", 0, HOUR_MS)
        .await
        .unwrap();
    assert!(
        url.starts_with("https://artifacts.s3.example.com/some/prefix/k?"),
        "{url}"
    );

    let through_us = with("links=server");
    put(&through_us, "k", b"x").await;
    let url = through_us
        .download_link("http://us", "k", "k.mender", 0, HOUR_MS)
        .await
        .unwrap();
    let (path, query) = url
        .strip_prefix("http://us")
        .unwrap()
        .split_once('?')
        .unwrap();
    assert_eq!(path, "/api/devices/v1/deployments/download/k");
    let name = through_us
        .verify_link("GET", path, query, HOUR_MS - 1)
        .unwrap();
    assert_eq!(name, "k.mender");
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some((s3, _)) = start(dir.path()).await else {
        return;
    };
    let wrong = s3.credentials("wrong").unwrap();
    let url = format!(
        "s3://{BUCKET}?endpoint={}&credentials={}",
        s3.endpoint(),
        wrong.display()
    );
    let error = Blobs::s3(&url, SECRET)
        .unwrap()
        .ping()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("credentials do not allow"), "{error}");
    let url = s3.url().unwrap().replace(BUCKET, "absent");
    let error = Blobs::s3(&url, SECRET)
        .unwrap()
        .ping()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no such bucket"), "{error}");
    let none = dir.path().join("none");
    let url = format!("s3://{BUCKET}?credentials={}", none.display());
    assert!(matches!(Blobs::s3(&url, SECRET), Err(BlobError::Config(_))));
}
