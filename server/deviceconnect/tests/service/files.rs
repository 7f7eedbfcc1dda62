//! Files over plain HTTP, with a device that keeps to the reference's rules.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambidex_deviceconnect::Settings;
use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_FILE, control, file};
use axum::body::Body;
use tokio::task::JoinHandle;

use crate::rig::{Client, Instance, Rig, hasty, new_device};

/// What the device has, and how it behaves.
#[derive(Default)]
struct Disk {
    content: Vec<u8>,
    mode: u32,
    put: Option<file::PutFile>,
    received: Vec<u8>,
    refuse: Option<&'static str>,
    late_failure: Option<&'static str>,
    no_files: bool,
    mute: bool,
}

type SharedDisk = Arc<Mutex<Disk>>;

/// A device of the reference: 4096-byte chunks, a window of 20 of them, acknowledgements that echo the
/// beginning of the last chunk.
fn serve(mut device: Client, disk: SharedDisk) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ahead = VecDeque::new();
        let (mut sent, mut acked) = (0, 0);
        loop {
            let Ok(message) = device.next().await else {
                return;
            };
            let sid = message.sid.clone();
            let error = |err: &str| {
                let failure = file::Failure {
                    err: err.to_owned(),
                    ..file::Failure::default()
                };
                failure.message(&sid)
            };
            let mut answers = Vec::new();
            {
                let mut disk = disk.lock().unwrap();
                if disk.mute {
                    continue;
                }
                match (message.proto, message.typ.as_str()) {
                    (PROTO_CONTROL, control::OPEN) => {
                        let protocols = if disk.no_files {
                            vec![1, 3]
                        } else {
                            vec![2, 1]
                        };
                        let accept = control::Accept {
                            version: 1,
                            protocols,
                        };
                        answers.push(accept.message(&sid));
                    }
                    (PROTO_CONTROL, control::PING) => {
                        answers.push(Message::new(PROTO_CONTROL, control::PONG, &sid));
                    }
                    (PROTO_FILE, file::STAT | file::GET) if disk.refuse.is_some() => {
                        answers.push(error(disk.refuse.unwrap()));
                    }
                    (PROTO_FILE, file::STAT) => {
                        let info = file::FileInfo {
                            path: file::Path::decode(&message.body).unwrap().path,
                            size: Some(disk.content.len() as u64),
                            uid: Some(1000),
                            gid: Some(100),
                            mode: Some(disk.mode),
                            modtime: None,
                        };
                        answers.push(info.message(&sid));
                    }
                    (PROTO_FILE, file::GET) => {
                        (sent, acked) = (0, 0);
                        ahead = disk.content.chunks(4096).map(<[u8]>::to_vec).collect();
                        ahead.push_back(Vec::new());
                    }
                    (PROTO_FILE, file::ACK) => {
                        acked = message.props.offset().expect("an offset of 64 bits");
                    }
                    (PROTO_FILE, file::PUT) => {
                        disk.put = Some(file::PutFile::decode(&message.body).unwrap());
                        disk.received.clear();
                        answers.push(match disk.refuse {
                            Some(why) => error(why),
                            None => file::ack(&sid, 0),
                        });
                    }
                    (PROTO_FILE, file::CHUNK) => {
                        let offset = message.props.offset().unwrap();
                        assert_eq!(offset, disk.received.len() as u64);
                        disk.received.extend(&message.body);
                        if message.body.is_empty() || offset / 4096 % 10 == 9 {
                            answers.push(file::ack(&sid, offset));
                        }
                        if message.body.is_empty() {
                            answers.extend(disk.late_failure.map(error));
                        }
                    }
                    _ => {}
                }
            }
            for answer in answers {
                device.send(answer).await;
            }
            while sent < acked + 20 * 4096 {
                let Some(piece) = ahead.pop_front() else {
                    break;
                };
                device.send(file::chunk(&sid, sent, &piece)).await;
                sent += piece.len() as u64;
            }
        }
    })
}

async fn setup(settings: Settings, content: Vec<u8>) -> (Rig, Instance, String, SharedDisk) {
    let rig = Rig::new();
    let on = rig.start(settings).await;
    let id = new_device();
    let disk = Arc::new(Mutex::new(Disk {
        content,
        mode: 0o640,
        ..Disk::default()
    }));
    serve(rig.device(&on, &id).await, Arc::clone(&disk));
    (rig, on, id, disk)
}

fn some_bytes(count: u32) -> Vec<u8> {
    (0..count).map(|n| (n * 7 % 253) as u8).collect()
}

/// Fields in their order; `file` is the one with a name of its own.
async fn upload(rig: &Rig, on: &Instance, id: &str, fields: &[(&str, &[u8])]) -> (u16, String) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = if *name == "file" {
            "; filename=\"local.bin\""
        } else {
            ""
        };
        body.extend(
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n")
                .bytes(),
        );
        body.extend(*value);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    let path = format!("/devices/{id}/upload");
    let kind = Some("multipart/form-data; boundary=XX");
    let (status, _, body) = rig.call(on, "PUT", &path, Body::from(body), kind).await;
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn files_are_downloaded_whatever_their_size() {
    for size in [0, 1, 4096, 100_000, 1_000_000] {
        let (rig, on, id, disk) = setup(Settings::default(), some_bytes(size)).await;
        let path = format!("/devices/{id}/download?path=/etc/a%20b.bin");
        let (status, headers, body) = rig.get(&on, &path).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        assert!(
            body == disk.lock().unwrap().content,
            "{size}: {}",
            body.len()
        );
        for (name, value) in [
            ("content-type", "application/octet-stream"),
            ("content-disposition", "attachment; filename=\"a b.bin\""),
            ("x-men-file-path", "/etc/a b.bin"),
            ("x-men-file-uid", "1000"),
            ("x-men-file-gid", "100"),
            ("x-men-file-mode", "640"),
            ("x-men-file-size", size.to_string().as_str()),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        let none = Body::empty();
        let (status, head, body) = rig.call(&on, "HEAD", &path, none, None).await;
        assert_eq!((status, body.len()), (200, 0));
        assert_eq!(head["x-men-file-size"], headers["x-men-file-size"]);
        let event = rig.wait_audit("download_file").await;
        assert_eq!(event["meta"]["path"][0], "/etc/a b.bin");
    }
}

#[tokio::test]
async fn downloads_that_cannot_be_are_told_before_they_begin() {
    let (rig, on, id, disk) = setup(Settings::default(), b"x".to_vec()).await;
    let status = async |query: &str| {
        let (status, _, body) = rig
            .get(&on, &format!("/devices/{id}/download{query}"))
            .await;
        (status, String::from_utf8(body).unwrap())
    };
    for query in ["", "?path=", "?path=relative"] {
        assert_eq!(status(query).await.0, 400, "{query}");
    }
    disk.lock().unwrap().mode = 0x8000_01ed;
    assert_eq!(status("?path=/etc").await.0, 400, "a directory");
    disk.lock().unwrap().refuse = Some("permission denied");
    let (code, text) = status("?path=/etc/shadow").await;
    assert_eq!(code, 400);
    assert!(text.contains("permission denied"), "{text}");
    disk.lock().unwrap().no_files = true;
    assert_eq!(status("?path=/x").await.0, 502);
    let path = format!("/devices/{}/download?path=/x", new_device());
    assert_eq!(rig.get(&on, &path).await.0, 404);
}

#[tokio::test]
async fn offline_is_409_and_mute_is_408() {
    let settings = Settings {
        transfer_patience: Duration::from_millis(200),
        ..Settings::default()
    };
    let (rig, on, id, disk) = setup(settings, b"x".to_vec()).await;
    disk.lock().unwrap().mute = true;
    let path = format!("/devices/{id}/download?path=/x");
    assert_eq!(rig.get(&on, &path).await.0, 408);
    let fields: [(&str, &[u8]); 2] = [("path", b"/x"), ("file", b"x")];
    assert_eq!(upload(&rig, &on, &id, &fields).await.0, 408);

    let offline = new_device();
    let tenant = ambidex_access::TenantId::new("");
    on.service
        .provision_device(&tenant, &offline)
        .await
        .unwrap();
    let path = format!("/devices/{offline}/download?path=/x");
    assert_eq!(rig.get(&on, &path).await.0, 409);
    assert_eq!(upload(&rig, &on, &offline, &fields).await.0, 409);
}

#[tokio::test]
async fn files_are_uploaded_with_their_fields_in_any_order() {
    let content = some_bytes(1_000_000);
    let (rig, on, id, disk) = setup(Settings::default(), Vec::new()).await;
    let fields: Vec<(&str, &[u8])> = vec![
        ("path", b"/data/x"),
        ("uid", b"1000"),
        ("gid", b"5"),
        ("mode", b"4755"),
        ("file", &content),
    ];
    for turn in 0..fields.len() {
        let mut fields = fields.clone();
        fields.rotate_left(turn);
        let (status, text) = upload(&rig, &on, &id, &fields).await;
        assert_eq!(status, 201, "{turn}: {text}");
        let disk = disk.lock().unwrap();
        assert!(disk.received == content, "{turn}: {}", disk.received.len());
        let put = disk.put.as_ref().unwrap();
        assert_eq!(put.path, "/data/x");
        assert_eq!(
            (put.uid, put.gid, put.mode),
            (Some(1000), Some(5), Some(0o4755))
        );
        assert_eq!(put.src_path.as_deref(), Some("local.bin"));
    }
    let event = rig.wait_audit("upload_file").await;
    assert_eq!(event["meta"]["path"][0], "/data/x");
    // empty, and with nothing but what is needed
    let (status, text) = upload(&rig, &on, &id, &[("path", b"/y"), ("file", b"")]).await;
    assert_eq!(status, 201, "{text}");
    assert!(disk.lock().unwrap().received.is_empty());
}

#[tokio::test]
async fn uploads_that_cannot_be_are_refused() {
    let settings = Settings {
        upload_bytes_max: 1000,
        ..Settings::default()
    };
    let (rig, on, id, disk) = setup(settings, Vec::new()).await;
    let long = vec![b'x'; 1001];
    let all: [(&str, &[u8]); 4] = [
        ("path", b"/x"),
        ("uid", b"0"),
        ("gid", b"0"),
        ("mode", b"600"),
    ];
    let mut streamed = all.to_vec();
    streamed.push(("file", &long));
    for (fields, status) in [
        (vec![("path", b"/x".as_slice())], 400),
        (vec![("file", b"x".as_slice())], 400),
        (vec![("path", b"x".as_slice()), ("file", b"x")], 400),
        (
            vec![("path", b"/x".as_slice()), ("mode", b"9"), ("file", b"x")],
            400,
        ),
        (
            vec![
                ("path", b"/x".as_slice()),
                ("mode", b"10000"),
                ("file", b"x"),
            ],
            400,
        ),
        (
            vec![("path", b"/x".as_slice()), ("uid", b"-1"), ("file", b"x")],
            400,
        ),
        (vec![("path", b"/\xff".as_slice()), ("file", b"x")], 400),
        (vec![("path", b"/x".as_slice()), ("file", &long)], 413),
        (streamed, 413),
    ] {
        let (got, text) = upload(&rig, &on, &id, &fields).await;
        assert_eq!(
            got,
            status,
            "{:?}: {text}",
            fields.iter().map(|f| f.0).collect::<Vec<_>>()
        );
    }
    let path = format!("/devices/{id}/upload");
    assert_eq!(
        rig.call(&on, "PUT", &path, Body::from("x"), None).await.0,
        400
    );
    let good: [(&str, &[u8]); 2] = [("path", b"/x"), ("file", b"x")];
    disk.lock().unwrap().late_failure = Some("cannot rename");
    let (status, text) = upload(&rig, &on, &id, &good).await;
    assert_eq!(status, 400);
    assert!(text.contains("cannot rename"), "{text}");
    disk.lock().unwrap().refuse = Some("no such directory");
    let (status, text) = upload(&rig, &on, &id, &good).await;
    assert_eq!(status, 400);
    assert!(text.contains("no such directory"), "{text}");
}

#[tokio::test]
async fn a_device_that_goes_in_the_middle_ends_the_transfer() {
    let (rig, on, id, disk) = setup(hasty(), some_bytes(10)).await;
    disk.lock().unwrap().mute = true;
    let path = format!("/devices/{id}/download?path=/x");
    let (got, _) = tokio::join!(rig.get(&on, &path), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        on.internal("DELETE", &format!("/tenants/default/devices/{id}"), "")
            .await
    });
    assert_eq!(got.0, 409);
}
