//! MiB a second of an upload and a download of 256 MiB, as files and on the S3 server that tests use:
//! `cargo run --release -p ambidex-blob --example blob_throughput`.
#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot be made may stop"
)]

use std::time::Instant;

use ambidex_blob::Blobs;
use ambidex_harness::S3;
use bytes::Bytes;
use futures_util::TryStreamExt as _;

const MEBIBYTES: usize = 256;
/// What an HTTP body brings at a time.
const CHUNK_BYTES: usize = 64 << 10;

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let local = Blobs::local(&dir.path().join("files"), [0; 32]).unwrap();
    measure("files", &local).await;
    match S3::start(dir.path()).await.unwrap() {
        None => println!("no S3 server: only files measured"),
        Some(s3) => {
            let blobs = Blobs::s3(&s3.url().unwrap(), [0; 32]).unwrap();
            measure("S3", &blobs).await;
            let link = blobs
                .download_link("", "k", "k", 0, 3_600_000)
                .await
                .unwrap();
            let started = Instant::now();
            let mut body = reqwest::get(link).await.unwrap().bytes_stream();
            let mut bytes = 0;
            while let Some(chunk) = body.try_next().await.unwrap() {
                bytes += chunk.len();
            }
            assert_eq!(bytes, MEBIBYTES << 20);
            report("S3", "download by link", started);
        }
    }
}

fn report(what: &str, way: &str, started: Instant) {
    let rate = MEBIBYTES as f64 / started.elapsed().as_secs_f64();
    println!("{what}: {way} {rate:.0} MiB/s");
}

async fn measure(what: &str, blobs: &Blobs) {
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    let started = Instant::now();
    let mut upload = blobs.put_begin("k").await.unwrap();
    for _ in 0..(MEBIBYTES << 20) / CHUNK_BYTES {
        upload.write(chunk.clone()).await.unwrap();
    }
    upload.commit().await.unwrap();
    report(what, "upload", started);
    let started = Instant::now();
    let (_, mut content) = blobs.get("k", None).await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = content.try_next().await.unwrap() {
        bytes += piece.len();
    }
    assert_eq!(bytes, MEBIBYTES << 20);
    report(what, "download", started);
}
