//! CN-24: forwarded connections.

use std::time::Duration;

use ambidex_connect::settings::Targets;
use ambidex_wire::session::{Message, PROTO_FORWARD, forward};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::peer::{LIMIT, Peer};

const SID: &str = "s1";

fn to(port: u16, protocol: &str) -> forward::Connect {
    forward::Connect {
        remote_host: "127.0.0.1".to_owned(),
        remote_port: port,
        protocol: protocol.to_owned(),
    }
}

fn data(id: &str, bytes: &[u8]) -> Message {
    forward::message(forward::FORWARD, SID, id).body(bytes)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A connection through the device; the far end of it, and the answer.
async fn connected(peer: &mut Peer, new: Message, listener: &TcpListener) -> (TcpStream, Message) {
    peer.send(new).await;
    let answer = peer.message().await;
    assert_eq!(answer.typ, forward::NEW, "{answer:?}");
    assert!(answer.body.is_empty());
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    (stream, answer)
}

async fn failure(peer: &mut Peer) -> forward::Failure {
    let answer = peer.until(PROTO_FORWARD, forward::ERROR).await;
    forward::Failure::decode(&answer.body).unwrap()
}

#[tokio::test]
async fn tcp_goes_both_ways_one_message_at_a_time() {
    let mut peer = Peer::start().await;
    let (listener, port) = listener().await;
    let (mut far, _) = connected(&mut peer, to(port, "tcp").message(SID, "c1"), &listener).await;

    peer.send(data("c1", b"hello")).await;
    assert_eq!(
        peer.message().await,
        forward::message(forward::ACK, SID, "c1")
    );
    let mut buffer = [0; 5];
    far.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");

    // the second piece is withheld until the first is acknowledged
    far.write_all(&[7; 10_000]).await.unwrap();
    let first = peer.message().await;
    assert_eq!(first.typ, forward::FORWARD);
    let mut received = first.body.len();
    assert!(received <= 4096);
    assert!(peer.quiet(SID).await.is_empty(), "two under way");
    while received < 10_000 {
        peer.send(forward::message(forward::ACK, SID, "c1")).await;
        received += peer.message().await.body.len();
    }
    assert_eq!(received, 10_000);

    // the far end closes
    drop(far);
    peer.send(forward::message(forward::ACK, SID, "c1")).await;
    assert_eq!(
        peer.message().await,
        forward::message(forward::STOP, SID, "c1")
    );
    peer.send(forward::message(forward::STOP, SID, "c1")).await;
    let failure = failure(&mut peer).await;
    assert_eq!(failure.err, "unknown connection");
    assert_eq!(failure.msgtype.as_deref(), Some("stop"));
}

#[tokio::test]
async fn a_stop_of_the_user_is_echoed_after_everything_was_written() {
    let mut peer = Peer::start().await;
    let (listener, port) = listener().await;
    let (mut far, _) = connected(&mut peer, to(port, "tcp").message(SID, "c1"), &listener).await;
    peer.send(data("c1", b"last words")).await;
    peer.send(forward::message(forward::STOP, SID, "c1")).await;
    peer.until(PROTO_FORWARD, forward::STOP).await;
    let mut all = String::new();
    timeout(LIMIT, far.read_to_string(&mut all))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(all, "last words");
}

#[tokio::test]
async fn who_asks_for_a_window_gets_one() {
    let mut peer = Peer::start().await;
    let (listener, port) = listener().await;
    for (asked, got) in [(1000, 16), (3, 3), (1, 1)] {
        let id = format!("c{asked}");
        let new = to(port, "tcp")
            .message(SID, &id)
            .prop(forward::WINDOW, asked);
        let (mut far, answer) = connected(&mut peer, new, &listener).await;
        assert_eq!(answer.props.int(forward::WINDOW), Some(got));
        let sent = 20 * forward::WINDOW_DATA_BYTES;
        let writing = tokio::spawn(async move {
            far.write_all(&vec![7; sent]).await.unwrap();
            far
        });
        let mut received = 0;
        for _ in 0..got {
            let message = peer.message().await;
            assert!(message.body.len() <= forward::WINDOW_DATA_BYTES);
            received += message.body.len();
        }
        assert!(peer.quiet(SID).await.is_empty(), "more than the window");
        while received < sent {
            peer.send(forward::message(forward::ACK, SID, &id)).await;
            let message = peer.message().await;
            received += message.body.len();
        }
        drop(writing.await.unwrap());
        // several at once in the other direction too: each is acknowledged
        peer.send(forward::message(forward::STOP, SID, &id)).await;
        peer.until(PROTO_FORWARD, forward::STOP).await;
    }
    // without the word, the reference's way
    let (_far, answer) = connected(&mut peer, to(port, "tcp").message(SID, "c"), &listener).await;
    assert_eq!(answer.props.int(forward::WINDOW), None);
}

#[tokio::test]
async fn udp_keeps_datagrams() {
    let mut peer = Peer::start().await;
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = far.local_addr().unwrap().port();
    peer.send(to(port, "udp").message(SID, "u")).await;
    assert_eq!(peer.message().await.typ, forward::NEW);
    let mut buffer = [0; 9000];
    for text in ["one", "two"] {
        peer.send(data("u", text.as_bytes())).await;
        assert_eq!(peer.message().await.typ, forward::ACK);
        let (count, from) = far.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], text.as_bytes());
        far.send_to(&[9; 5000], from).await.unwrap();
        let message = peer.message().await;
        assert_eq!(
            (message.typ.as_str(), message.body.len()),
            (forward::FORWARD, 5000)
        );
        peer.send(forward::message(forward::ACK, SID, "u")).await;
    }
    peer.send(forward::message(forward::STOP, SID, "u")).await;
    assert_eq!(peer.message().await.typ, forward::STOP);
}

#[tokio::test]
async fn mistakes_and_refusals_are_told() {
    let mut peer = Peer::start().await;
    let (listener, port) = listener().await;
    drop(listener);
    peer.send(to(port, "tcp").message(SID, "c")).await;
    let error = failure(&mut peer).await;
    assert!(error.err.contains("refused"), "{error:?}");
    assert_eq!(error.msgtype.as_deref(), Some("new"));
    peer.send(to(port, "sctp").message(SID, "c")).await;
    assert_eq!(failure(&mut peer).await.err, "unknown protocol: sctp");
    peer.send(to(0, "tcp").message(SID, "c")).await;
    failure(&mut peer).await;
    peer.send(to(port, "tcp").message(SID, "")).await;
    assert!(failure(&mut peer).await.err.contains("connection_id"));
    peer.send(data("nobody", b"x")).await;
    assert_eq!(failure(&mut peer).await.err, "unknown connection");
    peer.send(Message::new(PROTO_FORWARD, "sing", SID).prop(forward::CONNECTION_ID, "c"))
        .await;
    failure(&mut peer).await;
}

#[tokio::test]
async fn connections_lead_where_they_may_and_nowhere_else() {
    let (listener, port) = listener().await;
    let mut peer = Peer::with(|settings| {
        let target = format!("127.0.0.1:{port}").parse().unwrap();
        settings.port_forward.targets = Targets::only(vec![target]);
    })
    .await;
    connected(&mut peer, to(port, "tcp").message(SID, "c"), &listener).await;
    peer.send(forward::message(forward::STOP, SID, "c")).await;
    peer.until(PROTO_FORWARD, forward::STOP).await;
    let other = if port == 1 { 2 } else { port - 1 };
    let mut elsewhere = to(port, "tcp");
    elsewhere.remote_host = "0.0.0.0".to_owned();
    for refused in [to(other, "tcp"), to(other, "udp"), elsewhere] {
        peer.send(refused.message(SID, "d")).await;
        let error = failure(&mut peer).await;
        assert!(
            error.err.contains("remote.port_forward.targets"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn connections_end_with_their_session_and_when_nothing_happens() {
    let mut peer = Peer::with(|settings| {
        settings.times.forward_idle = Duration::from_millis(200);
    })
    .await;
    let (listener, port) = listener().await;
    let (_far, _) = connected(&mut peer, to(port, "tcp").message(SID, "c"), &listener).await;
    assert_eq!(peer.message().await.typ, forward::STOP);

    let mut peer = Peer::start().await;
    let (mut far, _) = connected(&mut peer, to(port, "tcp").message(SID, "c"), &listener).await;
    peer.send(ambidex_wire::session::control::close(SID)).await;
    let mut buffer = [0; 1];
    let read = timeout(LIMIT, far.read(&mut buffer)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
}
