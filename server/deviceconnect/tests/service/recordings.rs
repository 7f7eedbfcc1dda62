//! Recordings of shells and what the audit log learns.

use ambidex_deviceconnect::Settings;
use ambidex_wire::session::{Message, file, forward, shell};
use serde_json::Value;

use crate::rig::{Client, Instance, MANAGEMENT, Rig, USER, bearer, json, new_device, wait};

/// Runs a shell that shows `output` and ends; the session's id.
async fn shell_session(rig: &Rig, on: &Instance, id: &str, output: &[&[u8]]) -> String {
    let mut device = rig.device(on, id).await;
    let mut user = rig.user(on, id).await;
    user.start_shell().await;
    let sid = device.expect(shell::NEW).await.sid;
    for piece in output {
        device
            .send(shell::message(shell::SHELL, &sid, 1, piece))
            .await;
        user.expect(shell::SHELL).await;
    }
    let size = Message::new(1, shell::RESIZE, "")
        .prop(shell::WIDTH, 132)
        .prop(shell::HEIGHT, 50);
    user.send(size).await;
    device.expect(shell::RESIZE).await;
    drop(user);
    device.expect(shell::STOP).await;
    wait("the end of the recording", async || {
        let (_, _, body) = rig.get(on, &format!("/sessions/{sid}")).await;
        json(&body)["ended_ts"].is_string()
    })
    .await;
    sid
}

#[tokio::test]
async fn a_shell_is_recorded_and_played_back() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let long: Vec<u8> = (0..40_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let pieces: Vec<&[u8]> = [b"\x1b[1mhello\x1b[0m\r\n".as_slice()]
        .into_iter()
        .chain(long.chunks(255))
        .collect();
    let sid = shell_session(&rig, &on, &id, &pieces).await;

    let path = format!("{MANAGEMENT}/sessions/{sid}/playback");
    let token = bearer(&rig.user_token(None));
    let mut player = Client::connect(&on, &path, &token).await.unwrap();
    let first = player.expect(shell::RESIZE).await;
    assert_eq!(shell::size(&first.props), Some((100, 30)));
    let mut shown = Vec::new();
    let mut sizes = Vec::new();
    let end = loop {
        match player.next().await {
            Ok(message) if message.typ == shell::SHELL => {
                assert!(message.body.len() <= 1024);
                assert_eq!(message.proto, 1);
                shown.extend(message.body);
            }
            Ok(message) if message.typ == shell::RESIZE => sizes.push(shell::size(&message.props)),
            Ok(message) => assert_eq!(message.typ, shell::DELAY),
            Err(closed) => break closed,
        }
    };
    assert!(shown == pieces.concat(), "{} bytes", shown.len());
    assert_eq!(sizes, [Some((132, 50))]);
    assert_eq!(end.0, 1000);

    let (status, _, body) = rig.get(&on, &format!("/sessions/{sid}")).await;
    assert_eq!(status, 200);
    let shown = json(&body);
    assert_eq!(shown["output_bytes"], pieces.concat().len());
    assert_eq!(
        (&shown["device_id"], &shown["user_id"]),
        (&id.as_str().into(), &USER.into())
    );
}

#[tokio::test]
async fn a_recording_is_exported_for_any_player() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let output: [&[u8]; 3] = [b"gr\xc3", b"\xbc\xc3\x9fe\r\n", b"\xff"];
    let sid = shell_session(&rig, &on, &id, &output).await;
    let (status, headers, body) = rig.get(&on, &format!("/sessions/{sid}/export")).await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/x-asciicast");
    let text = String::from_utf8(body).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| json(line.as_bytes())).collect();
    assert_eq!(lines[0]["version"], 2);
    assert_eq!(
        (&lines[0]["width"], &lines[0]["height"]),
        (&100.into(), &30.into())
    );
    assert_eq!(lines[0]["timestamp"], 1_612_173_600);
    let mut last = 0.0;
    let mut shown = String::new();
    for event in &lines[1..] {
        let at = event[0].as_f64().unwrap();
        assert!(at >= last, "{text}");
        last = at;
        match event[1].as_str().unwrap() {
            "o" => shown.push_str(event[2].as_str().unwrap()),
            "r" => assert_eq!(event[2], "132x50"),
            other => panic!("{other}"),
        }
    }
    assert_eq!(shown, "gr\u{fc}\u{df}e\r\n\u{fffd}");
}

#[tokio::test]
async fn sessions_are_listed_and_expire() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let (one, two) = (new_device(), new_device());
    let first = shell_session(&rig, &on, &one, &[b"1"]).await;
    rig.clock.advance(1000);
    let second = shell_session(&rig, &on, &two, &[b"2"]).await;
    let ids = async |query: &str| -> Vec<String> {
        let (status, headers, body) = rig.get(&on, &format!("/sessions{query}")).await;
        assert_eq!(status, 200);
        assert!(headers.contains_key("x-total-count"));
        let list = json(&body);
        let list = list.as_array().unwrap().iter();
        list.map(|session| session["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("").await, [second.as_str(), first.as_str()]);
    assert_eq!(ids(&format!("?device_id={one}")).await, [first.as_str()]);
    assert_eq!(
        ids(&format!("?user_id={USER}&per_page=1&page=2")).await,
        [first.as_str()]
    );
    assert!(ids("?user_id=nobody").await.is_empty());
    assert_eq!(rig.get(&on, "/sessions?page=0").await.0, 400);

    for path in ["", "/playback", "/export"] {
        assert_eq!(
            rig.get(&on, &format!("/sessions/nothing{path}")).await.0,
            404
        );
    }
    assert_eq!(
        rig.get(&on, &format!("/sessions/{first}/playback")).await.0,
        400
    );
    let path = format!("/sessions/{first}/playback?sleep_ms=x");
    assert_eq!(rig.get(&on, &path).await.0, 400);

    // A user whose roles leave another group only sees none of it.
    rig.world
        .set(|says| says.grants.terminal_groups = Some(vec!["lab".to_owned()]));
    for path in ["", "/playback", "/export"] {
        assert_eq!(
            rig.get(&on, &format!("/sessions/{first}{path}")).await.0,
            403
        );
    }
    assert_eq!(rig.get(&on, "/sessions").await.0, 403);
    assert_eq!(
        rig.get(&on, &format!("/sessions?device_id={one}")).await.0,
        403
    );
    rig.world.set(|says| says.grants.terminal_groups = None);

    rig.clock.advance(30 * 24 * 3600 * 1000);
    assert_eq!(on.service.remove_expired().await.unwrap(), 1);
    assert_eq!(ids("").await, [second]);
}

#[tokio::test]
async fn the_audit_log_learns_of_everything() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    assert!(
        rig.audit().await.is_empty(),
        "connecting alone is nothing yet"
    );
    rig.clock.advance(10);
    user.start_shell().await;
    let sid = device.expect(shell::NEW).await.sid;
    let opened = rig.wait_audit("open_terminal").await;
    assert_eq!(opened["meta"]["session_id"], serde_json::json!([sid]));
    assert_eq!(opened["actor"]["id"], USER);
    assert_eq!(opened["object"]["id"], id.as_str());
    assert_eq!(opened["object"]["type"], "device");
    rig.clock.advance(10);

    let to = forward::Connect {
        remote_host: "localhost".to_owned(),
        remote_port: 22,
        protocol: "tcp".to_owned(),
    };
    for connection in ["c1", "c2"] {
        user.send(to.message("", connection)).await;
        device.expect(forward::NEW).await;
    }
    rig.clock.advance(10);
    let path = file::Path {
        path: "/etc/hostname".to_owned(),
    };
    user.send(path.message(file::GET, "")).await;
    device.expect(file::GET).await;
    rig.clock.advance(10);
    let put = file::PutFile {
        path: "/tmp/x".to_owned(),
        ..file::PutFile::default()
    };
    user.send(put.message("")).await;
    device.expect(file::PUT).await;
    rig.clock.advance(10);
    drop(user);
    rig.wait_audit("close_portforward").await;
    rig.wait_audit("close_terminal").await;
    let events = rig.audit().await;
    let actions: Vec<&str> = events.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        actions[..4],
        [
            "open_terminal",
            "open_portforward",
            "download_file",
            "upload_file"
        ]
    );
    assert_eq!(actions.len(), 6, "{actions:?}");
    assert_eq!(events[1].1["change"], "tcp localhost:22");
    assert_eq!(events[2].1["meta"]["path"][0], "/etc/hostname");
    assert_eq!(events[3].1["meta"]["path"][0], "/tmp/x");
}
