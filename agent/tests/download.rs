//! Downloads over broken connections: rows D of the acceptance table.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    collections::BTreeMap,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ambidex_agent::{
    Link, LinkError, LinkErrorKind,
    api::{Beginning, Download, Position, Renewal},
};
use support::{Answer, Device, Request, Server, answer, answer_with, cut, stall};

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|n| u8::try_from(n * 7 % 251).unwrap())
        .collect()
}

async fn read(mut download: Download) -> Result<Vec<u8>, LinkError> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        match download.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(error
                .into_inner()
                .unwrap()
                .downcast_ref::<LinkError>()
                .unwrap()
                .clone()),
        }
    })
    .await
    .unwrap()
}

fn range(request: &Request) -> Option<(usize, usize)> {
    let (from, to) = request
        .header("range")?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    Some((from.parse().unwrap(), to.parse().unwrap()))
}

/// Cuts every answer after `piece` bytes.
fn brittle(body: &[u8], request: &Request, piece: usize) -> Answer {
    match range(request) {
        None => cut(200, &[("ETag", "\"v1\"")], body, piece),
        Some((from, to)) => {
            let content = format!("bytes {from}-{to}/{}", body.len());
            let rest = &body[from..=to];
            let headers = [("Content-Range", content.as_str())];
            if rest.len() <= piece {
                answer_with(206, &headers, rest)
            } else {
                cut(206, &headers, rest, piece)
            }
        }
    }
}

/// D1, P9.
#[tokio::test]
async fn a_broken_download_is_taken_up_at_the_exact_byte() {
    let body = payload(500_000);
    let served = body.clone();
    let server = Server::start(move |r| brittle(&served, r, 120_000)).await;
    let device = Device::new(&[], "");
    let download = Link::new(device.config()).download(&format!("{}/a", server.url), None);
    let handle = download.handle();
    assert_eq!(read(download).await.unwrap(), body);
    assert_eq!(
        (handle.received_bytes(), handle.total_bytes()),
        (500_000, Some(500_000))
    );
    let requests = server.requests();
    let ranges: Vec<_> = requests.iter().map(|r| r.header("range")).collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=120000-499999"),
            Some("bytes=240000-499999"),
            Some("bytes=360000-499999"),
            Some("bytes=480000-499999")
        ]
    );
    assert!(
        requests[1..]
            .iter()
            .all(|r| r.header("if-range") == Some("\"v1\""))
    );
    assert!(requests.iter().all(|r| r.header("authorization").is_none()));
}

/// D2: whatever does not fit exactly ends the download.
#[tokio::test]
async fn an_answer_that_does_not_fit_ends_it() {
    for (status, content_range) in [
        (206, Some("bytes 50001-99999/100000")),
        (206, Some("bytes 50000-99998/100000")),
        (206, Some("bytes 50000-99999/100001")),
        (206, Some("bytes 50000-99999/*")),
        (206, None),
        (200, None),
        (416, None),
        (405, None),
    ] {
        let body = payload(100_000);
        let server = Server::start(move |r| match range(r) {
            None => cut(200, &[], body.clone(), 50_000),
            Some(_) => {
                let headers: Vec<_> = content_range
                    .iter()
                    .map(|v| ("Content-Range", *v))
                    .collect();
                answer_with(status, &headers, &body[50_000..])
            }
        })
        .await;
        let device = Device::new(&[], "");
        let download = Link::new(device.config()).download(&format!("{}/a", server.url), None);
        let error = read(download).await.unwrap_err();
        assert_eq!(
            error.kind(),
            LinkErrorKind::Permanent,
            "{status} {content_range:?}: {error}"
        );
        assert_eq!(server.requests().len(), 2, "{status} {content_range:?}");
    }
}

/// D3.
#[tokio::test]
async fn the_number_of_tries_is_limited() {
    let server = Server::start(|_| Answer::Close).await;
    let device = Device::new(&[], "retry_download_count = 3");
    let download = Link::new(device.config()).download(&format!("{}/a", server.url), None);
    let error = read(download).await.unwrap_err();
    assert!(
        error.to_string().contains("given up after 3 tries"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 4);
}

/// D4.
#[tokio::test]
async fn a_stalled_download_is_taken_up() {
    let body = payload(100_000);
    let served = body.clone();
    let server = Server::start(move |r| match range(r) {
        None => stall(200, &[], served.clone(), 40_000),
        Some(_) => brittle(&served, r, usize::MAX),
    })
    .await;
    let device = Device::new(&[], "");
    let started = Instant::now();
    let download = Link::new(device.config()).download(&format!("{}/a", server.url), None);
    assert_eq!(read(download).await.unwrap(), body);
    assert!(started.elapsed() >= Duration::from_millis(450));
    assert_eq!(server.requests().len(), 2);
}

/// D5.
#[tokio::test]
async fn nothing_of_one_download_reaches_the_next() {
    let body = payload(10_000);
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |r| {
        if r.target == "/second" && tries.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer::Close;
        }
        answer_with(200, &[("ETag", "\"x\"")], body.clone())
    })
    .await;
    let device = Device::new(&[], "");
    let link = Link::new(device.config());
    for path in ["/first", "/second"] {
        assert_eq!(
            read(link.download(&format!("{}{path}", server.url), None))
                .await
                .unwrap()
                .len(),
            10_000
        );
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|r| r.header("range").is_none())
    );
}

fn position(offset: u64, etag: &str) -> Option<Position> {
    Some(Position {
        offset,
        total: 100_000,
        etag: Some(etag.to_owned()),
    })
}

async fn beginning_and_rest(mut download: Download) -> (Beginning, Result<Vec<u8>, LinkError>) {
    let (download, beginning) = tokio::task::spawn_blocking(move || {
        let beginning = download.beginning().unwrap();
        (download, beginning)
    })
    .await
    .unwrap();
    (beginning, read(download).await)
}

/// W2: what an earlier life has received is not fetched again.
#[tokio::test]
async fn a_download_begins_where_an_earlier_one_ended() {
    let body = payload(100_000);
    let served = body.clone();
    let server = Server::start(move |r| brittle(&served, r, 40_000)).await;
    let device = Device::new(&[], "");
    let link = Link::new(device.config());
    let uri = format!("{}/a", server.url);
    let download = link.take_up(&uri, None, position(30_000, "\"v1\""));
    let (beginning, rest) = beginning_and_rest(download).await;
    assert_eq!(beginning, Beginning::Rest);
    assert_eq!(rest.unwrap(), body[30_000..]);
    let requests = server.requests();
    let ranges: Vec<_> = requests.iter().map(|r| r.header("range")).collect();
    assert_eq!(
        ranges,
        [Some("bytes=30000-99999"), Some("bytes=70000-99999")]
    );
    assert!(
        requests
            .iter()
            .all(|r| r.header("if-range") == Some("\"v1\""))
    );
    // all of it is there: nobody is asked
    let download = link.take_up(&uri, None, position(100_000, "\"v1\""));
    let (beginning, rest) = beginning_and_rest(download).await;
    assert_eq!((beginning, rest.unwrap()), (Beginning::Rest, Vec::new()));
    assert_eq!(server.requests().len(), 2);
}

/// W2: what does not fit to an earlier life's beginning makes the download begin anew; what is wrong ends it.
#[tokio::test]
async fn a_download_begins_anew_where_the_file_is_another() {
    for (status, content_range, etag, requests) in [
        (200, None, "\"v2\"", 1),
        (416, None, "\"v2\"", 2),
        (206, Some("bytes 30000-99999/100000"), "\"v2\"", 2),
        (206, Some("bytes 30000-100000/100001"), "\"v1\"", 2),
    ] {
        let body = payload(100_000);
        let served = body.clone();
        let server = Server::start(move |r| match (range(r), status) {
            (None, _) | (_, 200) => answer_with(200, &[("ETag", "\"v2\"")], served.clone()),
            (Some(_), status) => {
                let mut headers = vec![("ETag", etag)];
                headers.extend(content_range.iter().map(|v| ("Content-Range", *v)));
                answer_with(status, &headers, &served[30_000..])
            }
        })
        .await;
        let device = Device::new(&[], "");
        let download = Link::new(device.config()).take_up(
            &format!("{}/a", server.url),
            None,
            position(30_000, "\"v1\""),
        );
        let (beginning, rest) = beginning_and_rest(download).await;
        assert_eq!(beginning, Beginning::Whole(position(0, "\"v2\"")));
        assert!(rest.unwrap() == body, "{status} {content_range:?}");
        assert_eq!(server.requests().len(), requests, "{content_range:?}");
    }
    // D2: a range that was not asked for
    let server = Server::start(|_| {
        let wrong = [("Content-Range", "bytes 1-99999/100000")];
        answer_with(206, &wrong, payload(99_999))
    })
    .await;
    let device = Device::new(&[], "");
    let download = Link::new(device.config()).take_up(
        &format!("{}/a", server.url),
        None,
        position(30_000, "\"v1\""),
    );
    let error = read(download).await.unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Permanent, "{error}");
}

/// W3: a fresh link that is refused, too, is no reason for a storm of requests.
#[tokio::test]
async fn links_that_are_always_refused_end_the_download() {
    for status in [400, 401, 403, 404, 410] {
        let storage = Server::start(move |_| answer(status, "")).await;
        let fresh = format!("{}/fresh", storage.url);
        let server = Server::friendly(move |r| {
            r.target.contains("/next").then(|| {
                answer(200, format!(r#"{{"id":"d-1","artifact":{{"artifact_name":"r","source":{{"uri":"{fresh}"}}}}}}"#))
            })
        })
        .await;
        let device = Device::new(&[&server.url], "retry_download_count = 3");
        let renewal = Renewal {
            deployment_id: "d-1".to_owned(),
            provides: BTreeMap::new(),
        };
        let uri = format!("{}/old", storage.url);
        let error = read(Link::new(device.config()).download(&uri, Some(renewal)))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("after 3 tries"), "{error}");
        assert_eq!(storage.requests().len(), 4, "{status}");
    }
}

/// A limit on bytes a second is kept over the whole download (how exactly, `api/rate.rs` tests without a clock).
#[tokio::test]
async fn a_limited_download_takes_its_time() {
    let body = payload(300_000);
    let served = body.clone();
    let server = Server::start(move |_| answer(200, served.clone())).await;
    let device = Device::new(&[], "[download]\nrate_limit = 200000");
    let started = Instant::now();
    let download = Link::new(device.config()).download(&format!("{}/a", server.url), None);
    assert_eq!(read(download).await.unwrap(), body);
    // never faster; how much slower is the machine's business
    assert!(started.elapsed() >= Duration::from_millis(1000));
}

/// W3.
#[tokio::test]
async fn an_expired_link_is_replaced_and_the_download_goes_on() {
    let body = payload(100_000);
    let served = body.clone();
    let storage = Server::start(move |r| match (r.target.as_str(), range(r)) {
        ("/old", None) => cut(200, &[], served.clone(), 30_000),
        ("/old", Some(_)) => answer(403, ""),
        _ => brittle(&served, r, usize::MAX),
    })
    .await;
    let fresh = format!("{}/new", storage.url);
    let server = Server::friendly(move |r| {
        r.target.contains("/next").then(|| {
            answer(200, format!(r#"{{"id":"d-1","artifact":{{"artifact_name":"r","source":{{"uri":"{fresh}"}}}}}}"#))
        })
    })
    .await;
    let device = Device::new(&[&server.url], "");
    let link = Link::new(device.config());
    let renewal = |id: &str| {
        Some(Renewal {
            deployment_id: id.to_owned(),
            provides: BTreeMap::new(),
        })
    };
    let uri = format!("{}/old", storage.url);
    assert_eq!(
        read(link.download(&uri, renewal("d-1"))).await.unwrap(),
        body
    );
    assert_eq!(
        storage.requests_to("/new")[0].header("range"),
        Some("bytes=30000-99999")
    );
    // the server has another deployment meanwhile
    assert_eq!(
        read(link.download(&uri, renewal("d-0")))
            .await
            .unwrap_err()
            .kind(),
        LinkErrorKind::Gone
    );
    // nobody can be asked
    assert_eq!(
        read(link.download(&uri, None)).await.unwrap_err().kind(),
        LinkErrorKind::Gone
    );
}

#[tokio::test]
async fn a_download_is_cancelled_at_once_from_both_ends() {
    let server = Server::start(|_| stall(200, &[], payload(100_000), 100)).await;
    let device = Device::new(&[], "");
    let link = Link::new(device.config());
    let download = link.download(&format!("{}/a", server.url), None);
    let handle = download.handle();
    let reader = tokio::spawn(read(download));
    server.wait_for("/a", 1).await;
    handle.cancel();
    let error = tokio::time::timeout(Duration::from_millis(400), reader)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), LinkErrorKind::Cancelled);
}

#[tokio::test]
async fn memory_is_bounded_however_slow_the_reader() {
    let sent = Arc::new(AtomicUsize::new(0));
    let server = Server::start(|_| answer(200, payload(8_000_000))).await;
    let device = Device::new(&[], "");
    let mut download = Link::new(device.config()).download(&format!("{}/a", server.url), None);
    let handle = download.handle();
    // nobody reads: the queue fills to its limit and no further
    let mut last = u64::MAX;
    while handle.received_bytes() != last || last == 0 {
        last = handle.received_bytes();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(
        last < 1_000_000,
        "{last} bytes are held for a reader that does not read"
    );
    let counted = Arc::clone(&sent);
    let whole = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; 10_000];
        loop {
            match download.read(&mut buffer).unwrap() {
                0 => return counted.load(Ordering::SeqCst),
                count => counted.fetch_add(count, Ordering::SeqCst),
            };
        }
    })
    .await
    .unwrap();
    assert_eq!(whole, 8_000_000);
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_taken() {
    let server =
        Server::start(|_| answer_with(200, &[("Content-Encoding", "gzip")], payload(1000))).await;
    let device = Device::new(&[], "");
    let error = read(Link::new(device.config()).download(&format!("{}/a", server.url), None))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("content encoding"), "{error}");
}

/// Without a length nobody knows what is missing: a break in the middle ends the download.
#[tokio::test]
async fn a_download_without_a_length_cannot_be_taken_up() {
    let chunked = |body: &[u8], end: &str| {
        let text = [
            format!("{:x}\r\n", body.len()).as_bytes(),
            body,
            b"\r\n",
            end.as_bytes(),
        ]
        .concat();
        answer_with(
            200,
            &[("Transfer-Encoding", "chunked"), ("Content-Length", "")],
            text,
        )
    };
    let whole = payload(5000);
    let served = whole.clone();
    let server = Server::start(move |r| {
        if r.target == "/whole" {
            return chunked(&served, "0\r\n\r\n");
        }
        let Answer::Send {
            status,
            headers,
            body,
        } = chunked(&served, "")
        else {
            unreachable!()
        };
        let after = body.len();
        Answer::Cut {
            status,
            headers,
            body,
            after,
        }
    })
    .await;
    let device = Device::new(&[], "");
    let link = Link::new(device.config());
    assert_eq!(
        read(link.download(&format!("{}/whole", server.url), None))
            .await
            .unwrap(),
        whole
    );
    let error = read(link.download(&format!("{}/cut", server.url), None))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("did not say how long"),
        "{error}"
    );
    assert_eq!(server.requests_to("/cut").len(), 1);
}
