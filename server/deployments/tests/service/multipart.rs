//! Hostile and broken forms: always a 4xx, never anything left.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Request;

use crate::world::{Form, HOST, MANAGEMENT, World, artifact, send};

async fn raw(world: &World, content_type: Option<&str>, body: impl Into<Body>) -> u16 {
    let mut request = Request::post(format!("{MANAGEMENT}/artifacts"))
        .header("host", HOST)
        .header("authorization", format!("Bearer {}", world.user));
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    send(&world.public, request.body(body.into()).unwrap())
        .await
        .status
}

async fn assert_empty(world: &World) {
    // What a dropped request leaves to background threads is gone in a moment.
    for _ in 0..500 {
        if world.files() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(world.files(), 0);
    assert_eq!(world.get("/artifacts").await.json(), serde_json::json!([]));
    assert_eq!(world.rows("SELECT COUNT(*) FROM artifact_orphans").await, 0);
}

#[tokio::test]
async fn what_is_no_form_is_400() {
    let world = World::new();
    let boundary = format!("multipart/form-data; boundary={}", Form::BOUNDARY);
    for (content_type, body) in [
        (None, &b""[..]),
        (Some("application/json"), b"{}"),
        (Some("multipart/form-data"), b"x"),
        (Some("multipart/form-data; boundary="), b"x"),
        (Some(boundary.as_str()), b""),
        (Some(&boundary), b"no boundary at all"),
        (Some(&boundary), b"------ambidex-7f3a--\r\n"),
        (Some(&boundary), b"------ambidex-7f3a\r\n"),
        (Some(&boundary), b"------ambidex-7f3a\r\n\r\nno headers"),
        (Some(&boundary), b"------ambidex-7f3a\r\nContent-Disposition: form-data\r\n\r\nx\r\n------ambidex-7f3a--\r\n"),
        (Some(&boundary), b"------ambidex-7f3a\r\nContent-Disposition: form-data; name=\"artifact\"\r\n\r\n"),
        (Some(&boundary), b"------ambidex-7f3a\r\nContent-Disposition: form-data; name=\"description\"\r\n\r\n\xff\xfe\r\n------ambidex-7f3a--\r\n"),
    ] {
        let status = raw(&world, content_type, body).await;
        assert_eq!(status, 400, "{content_type:?} {:?}", String::from_utf8_lossy(body));
    }
    assert_empty(&world).await;
}

#[tokio::test]
async fn long_or_many_parts_are_400() {
    let world = World::new();
    let file = artifact("release-2", &["qemu"]);
    let long = "x".repeat(70_000);
    for name in ["description", "size", "artifact_id", "unknown"] {
        world
            .upload_form(&Form::new().text(name, &long).file(&file))
            .await
            .expect(400);
    }
    let mut many = Form::new();
    for _ in 0..40 {
        many = many.text("unknown", "x");
    }
    world.upload_form(&many.file(&file)).await.expect(400);
    assert_empty(&world).await;
}

#[tokio::test]
async fn a_form_cut_off_anywhere_leaves_nothing() {
    let world = World::new();
    let body = Form::new()
        .text("description", "d")
        .file(&artifact("release-2", &["qemu"]))
        .body();
    let path = format!("{MANAGEMENT}/artifacts");
    for cut in (0..body.len() - 4).step_by(97) {
        let part = Body::from(body[..cut].to_vec());
        let reply = world
            .send(Form::raw_request(&path, Some(&world.user), part))
            .await;
        assert_eq!(reply.status, 400, "cut at {cut}");
    }
    assert_empty(&world).await;
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_nothing() {
    let world = World::new();
    let body = Form::new().file(&artifact("release-2", &["qemu"])).body();
    let half = Bytes::from(body[..body.len() / 2].to_vec());
    let broken = stream::iter([Ok(half), Err(std::io::Error::other("connection reset"))]);
    let path = format!("{MANAGEMENT}/artifacts");
    let request = Form::raw_request(&path, Some(&world.user), Body::from_stream(broken));
    world.send(request).await.expect(400);
    assert_empty(&world).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    use futures_util::StreamExt as _;
    let world = World::new();
    let body = Form::new().file(&artifact("release-2", &["qemu"])).body();
    let half = Bytes::from(body[..body.len() / 2].to_vec());
    let endless = stream::iter([Ok::<_, std::io::Error>(half)]).chain(stream::pending());
    let path = format!("{MANAGEMENT}/artifacts");
    let request = Form::raw_request(&path, Some(&world.user), Body::from_stream(endless));
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(200), world.send(request));
    assert!(waiting.await.is_err(), "the upload waits for its rest");
    assert_empty(&world).await;
}

#[tokio::test]
async fn chunks_of_any_size_are_one_form() {
    for size in [1, 7, 4096] {
        let world = World::new();
        let body = Form::new()
            .text("description", "d")
            .file(&artifact("release-2", &["qemu"]))
            .body();
        let chunks: Vec<_> = body
            .chunks(size)
            .map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)))
            .collect();
        let path = format!("{MANAGEMENT}/artifacts");
        let request = Form::raw_request(
            &path,
            Some(&world.user),
            Body::from_stream(stream::iter(chunks)),
        );
        world.send(request).await.expect(201);
    }
}

#[tokio::test]
async fn an_invalid_artifact_is_refused_before_its_end() {
    use futures_util::StreamExt as _;
    let world = World::new();
    let start = Form::new().file(b"this is no artifact: ").body();
    let start = Bytes::from(start[..start.len() - 30].to_vec());
    let noise = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[7; 8192])));
    let body = stream::iter([Ok(start)]).chain(noise);
    let path = format!("{MANAGEMENT}/artifacts");
    let request = Form::raw_request(&path, Some(&world.user), Body::from_stream(body));
    world.send(request).await.expect(400);
    assert_empty(&world).await;
}
