//! Links to artifact files (table B024 to B029, B121).

use axum::body::Body;
use http::Request;

use crate::world::{HOST, Reply, World, artifact, send};

/// A server with one artifact, its bytes and the path of a link to it.
async fn world() -> (World, Vec<u8>, String) {
    let world = World::new();
    let file = artifact("release 2/ü", &["qemu"]);
    let id = world.upload(&file).await.expect(201).created();
    let link = world
        .get(&format!("/artifacts/{id}/download"))
        .await
        .expect(200)
        .json();
    let uri = link["uri"].as_str().unwrap();
    let path = uri
        .strip_prefix(&format!("http://{HOST}"))
        .unwrap()
        .to_owned();
    (world, file, path)
}

async fn fetch(world: &World, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&world.public, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn b024_the_whole_file() {
    let (world, file, path) = world().await;
    let reply = fetch(&world, "GET", &path, &[("accept-encoding", "gzip, zstd")])
        .await
        .expect(200);
    assert_eq!(reply.body, file);
    assert_eq!(reply.header("content-length"), file.len().to_string());
    assert_eq!(reply.header("accept-ranges"), "bytes");
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.mender-artifact"
    );
    assert_eq!(
        reply.header("content-disposition"),
        "attachment; filename=\"release_2__.mender\""
    );
    assert!(reply.headers.get("content-encoding").is_none());
    assert!(reply.header("cache-control").contains("no-transform"));
    let head = fetch(&world, "HEAD", &path, &[]).await.expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), file.len().to_string());
}

#[tokio::test]
async fn ranges_are_served() {
    let (world, file, path) = world().await;
    let size = file.len();
    for (range, expected) in [
        ("bytes=10-".to_owned(), 10..size),
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=-7".to_owned(), size - 7..size),
        (format!("bytes=5-{}", size + 100), 5..size),
    ] {
        let reply = fetch(&world, "GET", &path, &[("range", &range)])
            .await
            .expect(206);
        assert_eq!(reply.body, file[expected.clone()], "{range}");
        assert_eq!(reply.header("content-length"), expected.len().to_string());
        let text = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(reply.header("content-range"), text);
    }
    let beyond = format!("bytes={size}-");
    let reply = fetch(&world, "GET", &path, &[("range", &beyond)])
        .await
        .expect(416);
    assert_eq!(reply.header("content-range"), format!("bytes */{size}"));
    assert!(reply.body.is_empty());
}

#[tokio::test]
async fn b029_conditions_are_honoured() {
    let (world, file, path) = world().await;
    let first = fetch(&world, "GET", &path, &[]).await;
    let (etag, modified) = (
        first.header("etag").to_owned(),
        first.header("last-modified").to_owned(),
    );
    let past = "Thu, 01 Jan 1970 00:00:01 GMT";
    for (headers, status) in [
        (vec![("if-modified-since", modified.as_str())], 304),
        (vec![("if-modified-since", past)], 200),
        (vec![("if-unmodified-since", past)], 412),
        (vec![("if-unmodified-since", &modified)], 200),
        (vec![("if-none-match", &etag)], 304),
        (vec![("if-match", "\"other\"")], 412),
        (vec![("range", "bytes=1-"), ("if-range", &etag)], 206),
        (vec![("range", "bytes=1-"), ("if-range", &modified)], 206),
        (vec![("range", "bytes=1-"), ("if-range", "\"other\"")], 200),
    ] {
        let reply = fetch(&world, "GET", &path, &headers).await.expect(status);
        let expected = match status {
            200 => &file[..],
            206 => &file[1..],
            _ => &[],
        };
        assert_eq!(reply.body, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn b026_an_expired_or_changed_link_opens_nothing() {
    let (world, _, path) = world().await;
    let (bare, query) = path.split_once('?').unwrap();
    let mut changed = Vec::new();
    for (at, c) in path.char_indices().skip(bare.len() + 1) {
        // Underscores of base64 may stand for bits that are not used: other letters always count.
        if c.is_ascii_alphanumeric() && at % 7 == 0 {
            let mut text = path.clone();
            text.replace_range(at..=at, if c == 'A' { "B" } else { "A" });
            changed.push(text);
        }
    }
    assert!(changed.len() > 10);
    changed.push(bare.to_owned());
    changed.push(format!("{bare}x?{query}"));
    changed.push(format!("{path}&filename=evil"));
    for path in changed {
        fetch(&world, "GET", &path, &[]).await.expect(403);
    }
    world.clock.advance(15 * 60_000 - 1);
    fetch(&world, "GET", &path, &[]).await.expect(200);
    world.clock.advance(1);
    let reply = fetch(&world, "GET", &path, &[]).await.expect(403);
    assert_eq!(reply.error(), "URL expired");
}

#[tokio::test]
async fn b028_links_only_read() {
    let (world, _, path) = world().await;
    // A file is sent with another signature.
    fetch(&world, "PUT", &path, &[]).await.expect(403);
    for method in ["DELETE", "POST", "PATCH"] {
        fetch(&world, method, &path, &[]).await.expect(405);
    }
}

#[tokio::test]
async fn the_link_of_an_update_works_without_a_token() {
    let world = World::new();
    let file = artifact("release-2", &["qemu"]);
    world.upload(&file).await.expect(201);
    let device = world.device(1);
    world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    let uri = world.poll(&device).await.unwrap().artifact.source.uri;
    let path = uri.strip_prefix(&format!("http://{HOST}")).unwrap();
    assert_eq!(fetch(&world, "GET", path, &[]).await.expect(200).body, file);
    world.clock.advance(24 * 60 * 60_000 + 1_000);
    fetch(&world, "GET", path, &[]).await.expect(403);
}

#[tokio::test]
async fn a_link_to_a_deleted_artifact_is_404() {
    let (world, _, path) = world().await;
    let id = world.get("/artifacts").await.json()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    world.delete(&format!("/artifacts/{id}")).await.expect(204);
    fetch(&world, "GET", &path, &[]).await.expect(404);
}
