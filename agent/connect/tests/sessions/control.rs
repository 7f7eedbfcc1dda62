//! Handshake, errors, signs of life, the end of connections.

use std::time::Duration;

use ambidex_connect::{End, MESSAGE_BYTES_MAX, Wish};
use ambidex_wire::session::{Message, PROTO_CLIENT, PROTO_CONTROL, PROTO_FILE, control, shell};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::peer::Peer;

const SID: &str = "11111111-2222-3333-4444-555555555555";

async fn accepted(peer: &mut Peer) -> Vec<u16> {
    peer.send(control::Open::default().message(SID)).await;
    let answer = peer.until(PROTO_CONTROL, control::ACCEPT).await;
    let accept = control::Accept::decode(&answer.body).unwrap();
    assert_eq!((accept.version, answer.sid.as_str()), (1, SID));
    accept.protocols
}

/// CN-07.
#[tokio::test]
async fn exactly_what_is_on_is_accepted() {
    let mut peer = Peer::start().await;
    assert_eq!(accepted(&mut peer).await, [1, 2, 3, 4]);
    let mut peer = Peer::with(|settings| settings.terminal.user = None).await;
    assert_eq!(accepted(&mut peer).await, [2, 3, 4]);
    let mut peer = Peer::with(|settings| {
        settings.file_transfer.enabled = false;
        settings.port_forward.enabled = false;
        settings.commands = false;
    })
    .await;
    assert_eq!(accepted(&mut peer).await, [1]);
}

/// CN-08, with the captured bytes of the reference.
#[tokio::test]
async fn what_is_not_understood_is_answered_and_the_session_stays() {
    let mut peer = Peer::start().await;
    let unknown = Message::new(9, "x", SID).prop(control::MSGID, "m-1");
    peer.send(unknown).await;
    let captured = "82a368647283a570726f746fcdffffa3747970a56572726f72a3736964d92431313131313131312d\
        323232322d333333332d343434342d353535353535353535353535a4626f6479c45885a3657272d92a6e6f2068616e\
        646c6572207265676973746572656420666f722070726f746f636f6c3a20307830303039a5636c6f7365c2a86d7367\
        70726f746fcd0009a76d736774797065a178a56d73676964a36d2d31";
    let expected = Message::decode(&hex(captured)).unwrap();
    let answer = peer.message().await;
    assert_eq!(
        (answer.proto, &answer.typ, &answer.sid),
        (expected.proto, &expected.typ, &expected.sid)
    );
    assert_eq!(
        control::Failure::decode(&answer.body),
        control::Failure::decode(&expected.body)
    );

    peer.send(Message::new(PROTO_CONTROL, "dance", SID)).await;
    let failure = control::Failure::decode(&peer.message().await.body).unwrap();
    assert!(
        !failure.close && failure.err.contains("dance"),
        "{failure:?}"
    );

    let mut off = Peer::with(|settings| settings.file_transfer.enabled = false).await;
    off.send(Message::new(PROTO_FILE, "stat", SID)).await;
    let failure = control::Failure::decode(&off.message().await.body).unwrap();
    assert_eq!(failure.err, "no handler registered for protocol: 0x0002");
    let mut off = Peer::with(|settings| settings.terminal.enabled = false).await;
    off.send(Message::new(1, shell::NEW, SID)).await;
    let failure = control::Failure::decode(&off.message().await.body).unwrap();
    assert_eq!(failure.err, "no handler registered for protocol: 0x0001");

    // the session is still there
    assert!(peer.quiet(SID).await.is_empty());
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|b| u8::try_from(char::from(b).to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

/// CN-08.
#[tokio::test]
async fn another_version_ends_the_session() {
    let mut peer = Peer::start().await;
    for body in [
        control::Open {
            versions: vec![2, 3],
        }
        .message(SID)
        .body,
        vec![0xc1],
    ] {
        peer.send(Message::new(PROTO_CONTROL, control::OPEN, SID).body(body))
            .await;
        let answer = peer.until(PROTO_CONTROL, control::ERROR).await;
        let failure = control::Failure::decode(&answer.body).unwrap();
        assert!(failure.close, "{failure:?}");
    }
    let mut open = control::Open::default();
    open.versions.push(7);
    peer.send(open.message(SID)).await;
    peer.until(PROTO_CONTROL, control::ACCEPT).await;
}

/// CN-09: to the second, on a clock that stands.
#[tokio::test(start_paused = true)]
async fn a_silent_user_is_asked_and_then_left() {
    let mut peer = Peer::start().await;
    peer.limit *= 10;
    accepted(&mut peer).await;
    let start = Instant::now();
    let ping = peer.until(PROTO_CONTROL, control::PING).await;
    assert_eq!((ping.sid.as_str(), start.elapsed().as_secs()), (SID, 48));
    // any message is a sign of life
    peer.send(Message::new(PROTO_CONTROL, control::PONG, SID))
        .await;
    peer.until(PROTO_CONTROL, control::PING).await;
    assert_eq!(start.elapsed().as_secs(), 96);
    let answer = peer.until(PROTO_CONTROL, control::ERROR).await;
    assert_eq!(start.elapsed().as_secs(), 108);
    assert_eq!(
        control::Failure::decode(&answer.body).unwrap(),
        control::Failure::closing("session timeout")
    );
}

/// A dead network is noticed; a live server is not left.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_after_a_minute() {
    let mut peer = Peer::start().await;
    peer.limit *= 10;
    let start = Instant::now();
    // pings are sent before, and their answers would count
    while start.elapsed() < Duration::from_secs(30) {
        let frame = futures_util::StreamExt::next(&mut peer.socket)
            .await
            .unwrap()
            .unwrap();
        assert!(
            matches!(frame, Frame::Ping(ref payload) if payload[..] == b"60"[..]),
            "{frame:?}"
        );
    }
    let end = peer.end().await;
    assert_eq!(start.elapsed().as_secs(), 60);
    assert!(matches!(end, End::Lost(_)), "{end}");
}

/// CN-39.
#[tokio::test]
async fn bytes_that_are_no_message_end_the_connection_with_a_reason() {
    for (frame, code) in [
        (Frame::Binary(vec![0xc1].into()), CloseCode::Invalid),
        (Frame::Text("hello".into()), CloseCode::Invalid),
        (
            Frame::Binary(vec![0; MESSAGE_BYTES_MAX + 1].into()),
            CloseCode::Size,
        ),
    ] {
        let mut peer = Peer::start().await;
        peer.send_frame(frame).await;
        match peer.frame().await {
            Some(Frame::Close(Some(close))) => assert_eq!(close.code, code),
            other => panic!("{other:?}"),
        }
        let end = peer.end().await;
        assert!(matches!(end, End::Malformed(_) | End::TooLarge), "{end}");
    }
}

/// CN-37.
#[tokio::test]
async fn pings_of_the_server_are_answered() {
    let mut peer = Peer::start().await;
    peer.send_frame(Frame::Ping(b"60"[..].into())).await;
    let answer = futures_util::StreamExt::next(&mut peer.socket);
    let answer = tokio::time::timeout(peer.limit, answer).await.unwrap();
    assert_eq!(answer.unwrap().unwrap(), Frame::Pong(b"60"[..].into()));
}

#[tokio::test]
async fn the_largest_message_is_taken() {
    let mut peer = Peer::start().await;
    let head = Message::new(PROTO_CONTROL, control::PONG, SID)
        .encode()
        .len();
    let body = vec![7; MESSAGE_BYTES_MAX - head - 8];
    peer.send(Message::new(PROTO_CONTROL, "x", SID).body(body))
        .await;
    peer.until(PROTO_CONTROL, control::ERROR).await;
}

/// CN-28.
#[tokio::test]
async fn commands_go_to_the_daemon_and_are_answered() {
    let mut peer = Peer::start().await;
    for (typ, wish) in [
        ("check-update", Wish::CheckUpdate),
        ("send-inventory", Wish::SendInventory),
    ] {
        peer.send(Message::new(PROTO_CLIENT, typ, SID)).await;
        let answer = peer.until(PROTO_CLIENT, typ).await;
        assert_eq!(answer.props.int(shell::STATUS), Some(shell::STATUS_NORMAL));
        assert_eq!(peer.wishes.recv().await, Some(wish));
        assert!(peer.wishes.is_empty(), "asked twice");
    }
    peer.send(Message::new(PROTO_CLIENT, "reboot", SID)).await;
    peer.until(PROTO_CONTROL, control::ERROR).await;
    peer.wishes.close();
    peer.send(Message::new(PROTO_CLIENT, "check-update", SID))
        .await;
    let answer = peer.until(PROTO_CLIENT, "check-update").await;
    assert_eq!(answer.props.int(shell::STATUS), Some(shell::STATUS_ERROR));
}

#[tokio::test]
async fn sessions_have_a_limit_and_end_when_they_are_closed() {
    let mut peer = Peer::start().await;
    for number in 0..64 {
        assert!(peer.quiet(&format!("s{number}")).await.is_empty());
    }
    peer.send(Message::new(PROTO_CONTROL, control::PING, "one more"))
        .await;
    let answer = peer.until(PROTO_CONTROL, control::ERROR).await;
    let failure = control::Failure::decode(&answer.body).unwrap();
    assert!(failure.close && answer.sid == "one more", "{failure:?}");
    peer.send(control::close("s7")).await;
    // what ends a session, or answers us, begins none
    for late in [control::CLOSE, control::PONG, control::ERROR] {
        peer.send(Message::new(PROTO_CONTROL, late, "late")).await;
    }
    // the end is noticed at once, but not before these are read
    let mut again = peer.quiet("s0").await;
    while {
        peer.send(Message::new(PROTO_CONTROL, control::PING, "one more"))
            .await;
        let answer = peer.message().await;
        again.push(answer.clone());
        answer.typ == control::ERROR
    } {}
}

#[tokio::test]
async fn leaving_says_goodbye_to_every_session() {
    let mut peer = Peer::start().await;
    accepted(&mut peer).await;
    peer.leave("the device's agent is stopping");
    let answer = peer.until(PROTO_CONTROL, control::ERROR).await;
    let failure = control::Failure::decode(&answer.body).unwrap();
    assert_eq!(
        failure,
        control::Failure::closing("the device's agent is stopping")
    );
    match peer.frame().await {
        Some(Frame::Close(Some(close))) => {
            assert_eq!(close.code, CloseCode::Away);
            assert_eq!(close.reason.as_str(), "the device's agent is stopping");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(peer.end().await, End::Left(_)));
}

#[tokio::test]
async fn a_goodbye_of_the_server_is_understood() {
    let mut peer = Peer::start().await;
    peer.socket.close(None).await.unwrap();
    assert!(matches!(peer.end().await, End::Closed { .. }));
    let peer = Peer::start().await;
    assert!(matches!(peer.cut().await.0, End::Lost(_)));
}
