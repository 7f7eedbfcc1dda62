//! Messages captured from the reference's daemons, and messages that the reference's schema gives, byte
//! for byte.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use ambidex_wire::session::{
    self, Message, MessageRef, PROTO_CLIENT, PROTO_CONTROL, PROTO_SHELL, Props, SessionError,
    Value, client, control, file, forward, shell,
};

/// What the daemons sent.
const CAPTURED: &[(&str, &str)] = &[
    (
        "accept",
        "82a368647283a570726f746fcdffffa3747970a6616363657074a3736964d92431313131313131312d323232322d333333332d343434342d353535353535353535353535a4626f6479c42182a776657273696f6e01a970726f746f636f6c7394cd0001cd0002cd0003cd0004",
    ),
    (
        "timeout",
        "82a368647283a570726f746fcdffffa3747970a56572726f72a3736964d92431313131313131312d323232322d333333332d343434342d353535353535353535353535a4626f6479c41c82a3657272af73657373696f6e2074696d656f7574a5636c6f7365c3",
    ),
    (
        "bad proto 9",
        "82a368647283a570726f746fcdffffa3747970a56572726f72a3736964d92431313131313131312d323232322d333333332d343434342d353535353535353535353535a4626f6479c45885a3657272d92a6e6f2068616e646c6572207265676973746572656420666f722070726f746f636f6c3a20307830303039a5636c6f7365c2a86d736770726f746fcd0009a76d736774797065a178a56d73676964a36d2d31",
    ),
    (
        "shell new",
        "82a368647284a570726f746fcd0001a3747970a36e6577a3736964d92431313131313131312d323232322d333333332d343434342d353535353535353535353535a570726f707381a673746174757301a4626f6479c40d5368656c6c2073746172746564",
    ),
    (
        "shell ping",
        "81a368647284a570726f746fcd0001a3747970a470696e67a3736964d92431313131313131312d323232322d333333332d343434342d353535353535353535353535a570726f707382a774696d656f757441a673746174757303",
    ),
    (
        "chunk",
        "82a368647284a570726f746fcd0002a3747970aa66696c655f6368756e6ba3736964d92432323232323232322d323232322d333333332d343434342d353535353535353535353535a570726f707381a66f6666736574d30000000000000000a4626f6479c40668656c6c6f2e",
    ),
    (
        "end chunk",
        "81a368647284a570726f746fcd0002a3747970aa66696c655f6368756e6ba3736964d92432323232323232322d323232322d333333332d343434342d353535353535353535353535a570726f707381a66f6666736574d30000000000000006",
    ),
    (
        "upload ack",
        "81a368647284a570726f746fcd0002a3747970a361636ba3736964d92432323232323232322d323232322d333333332d343434342d353535353535353535353535a570726f707381a66f6666736574d3000000000000000b",
    ),
    (
        "offset err",
        "82a368647284a570726f746fcd0002a3747970a56572726f72a3736964d92432323232323232322d323232322d333333332d343434342d353535353535353535353535a570726f707381a66f6666736574d006a4626f6479c43a82a3657272d927696e76616c6964206f6666736574206461746120747970653a207265717569726520696e743634a76d736774797065a361636b",
    ),
    (
        "pf unknown",
        "82a368647283a570726f746fcd0003a3747970a56572726f72a3736964d92432323232323232322d323232322d333333332d343434342d353535353535353535353535a4626f6479c42582a3657272b2756e6b6e6f776e20636f6e6e656374696f6ea76d736774797065a473746f70",
    ),
];

/// What the schema gives.
const DERIVED: &[(&str, &str)] = &[
    (
        "open",
        "82a368647283a570726f746fcdffffa3747970a46f70656ea3736964a27331a4626f6479c40c81a876657273696f6e739101",
    ),
    (
        "close",
        "81a368647283a570726f746fcdffffa3747970a5636c6f7365a3736964a27331",
    ),
    (
        "new 80x40",
        "81a368647284a570726f746fcd0001a3747970a36e6577a3736964a27331a570726f707383ae7465726d696e616c5f776964746850af7465726d696e616c5f68656967687428a7757365725f6964a27531",
    ),
    (
        "web keys ls",
        "82a368647283a570726f746f01a3747970a57368656c6ca3736964a27331a4626f6479a36c730d",
    ),
    (
        "check-update",
        "81a368647283a570726f746fcd0004a3747970ac636865636b2d757064617465a570726f707381a7757365725f6964a27531",
    ),
    (
        "get_file",
        "82a368647284a570726f746fcd0002a3747970a86765745f66696c65a3736964a27331a570726f707381a7757365725f6964a27531a4626f6479c41481a470617468ad2f6574632f686f73746e616d65",
    ),
    (
        "put_file",
        "82a368647284a570726f746fcd0002a3747970a87075745f66696c65a3736964a27331a570726f707381a7757365725f6964a27531a4626f6479c43385a87372635f70617468a5612e747874a470617468ab2f646174612f612e747874a375696400a367696400a46d6f6465cd01a0",
    ),
    (
        "ack 40960",
        "81a368647284a570726f746fcd0002a3747970a361636ba3736964a27331a570726f707382a7757365725f6964a27531a66f6666736574d3000000000000a000",
    ),
    (
        "pf new :22",
        "82a368647284a570726f746fcd0003a3747970a36e6577a3736964a27331a570726f707381ad636f6e6e656374696f6e5f6964a26331a4626f6479c43183ab72656d6f74655f686f7374a93132372e302e302e31ab72656d6f74655f706f727416a870726f746f636f6ca3746370",
    ),
    (
        "delay 2500",
        "81a368647284a570726f746fcd0001a3747970a564656c6179a3736964a27331a570726f707381ab64656c61795f76616c7565cd09c4",
    ),
];

const SID_1: &str = "11111111-2222-3333-4444-555555555555";
const SID_2: &str = "22222222-2222-3333-4444-555555555555";

fn bytes(name: &str) -> Vec<u8> {
    let (_, text) = CAPTURED
        .iter()
        .chain(DERIVED)
        .find(|(n, _)| *n == name)
        .unwrap_or_else(|| panic!("no vector {name}"));
    hex::decode(text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn message(name: &str) -> Message {
    Message::decode(&bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn captured_messages_are_understood() {
    let accept = message("accept");
    assert_eq!(
        (accept.proto, accept.typ.as_str(), accept.sid.as_str()),
        (PROTO_CONTROL, control::ACCEPT, SID_1)
    );
    let accept = control::Accept::decode(&accept.body).unwrap();
    assert_eq!((accept.version, accept.protocols), (1, vec![1, 2, 3, 4]));

    let timeout = control::Failure::decode(&message("timeout").body).unwrap();
    assert_eq!(timeout, control::Failure::closing("session timeout"));

    let unknown = control::Failure::decode(&message("bad proto 9").body).unwrap();
    assert_eq!(
        unknown,
        control::Failure {
            err: "no handler registered for protocol: 0x0009".to_owned(),
            close: false,
            msgproto: Some(9),
            msgtype: Some("x".to_owned()),
            msgid: Some("m-1".to_owned()),
            code: None,
        }
    );

    let new = message("shell new");
    assert_eq!((new.proto, new.typ.as_str()), (PROTO_SHELL, shell::NEW));
    assert_eq!(new.props.int(shell::STATUS), Some(shell::STATUS_NORMAL));
    assert_eq!(new.body, b"Shell started");

    let ping = message("shell ping");
    assert_eq!(ping.props.int(shell::TIMEOUT), Some(65));
    assert_eq!(ping.props.int(shell::STATUS), Some(shell::STATUS_CONTROL));

    let error = file::Failure::decode(&message("offset err").body).unwrap();
    assert_eq!(error.msgtype.as_deref(), Some(file::ACK));
    let error = forward::Failure::decode(&message("pf unknown").body).unwrap();
    assert_eq!(error.err, "unknown connection");
}

#[test]
fn what_we_write_is_what_the_daemons_write() {
    let started = shell::message(shell::NEW, SID_1, shell::STATUS_NORMAL, b"Shell started");
    let accept = Message::new(PROTO_CONTROL, control::ACCEPT, SID_1);
    for (name, ours) in [
        ("shell new", started),
        ("chunk", file::chunk(SID_2, 0, b"hello.")),
        ("end chunk", file::chunk(SID_2, 6, b"")),
        ("upload ack", file::ack(SID_2, 11)),
        (
            "timeout",
            control::Failure::closing("session timeout").message(SID_1),
        ),
        (
            "shell ping",
            Message::new(PROTO_SHELL, shell::PING, SID_1)
                .prop(shell::TIMEOUT, 65)
                .prop(shell::STATUS, shell::STATUS_CONTROL),
        ),
        ("accept", accept.body(message("accept").body)),
    ] {
        assert_eq!(
            hex::encode(ours.encode()),
            hex::encode(bytes(name)),
            "{name}"
        );
    }
}

#[test]
fn what_we_write_is_what_the_schema_gives() {
    let user = |message: Message| {
        let mut with = Props::new().with(shell::USER_ID, "u1");
        for (key, value) in message.props.iter() {
            with.set(key, value.clone());
        }
        Message {
            props: with,
            ..message
        }
    };
    let put = file::PutFile {
        src_path: Some("a.txt".to_owned()),
        path: "/data/a.txt".to_owned(),
        uid: Some(0),
        gid: Some(0),
        mode: Some(0o640),
        ..file::PutFile::default()
    };
    let target = forward::Connect {
        remote_host: "127.0.0.1".to_owned(),
        remote_port: 22,
        protocol: "tcp".to_owned(),
    };
    let path = file::Path {
        path: "/etc/hostname".to_owned(),
    };
    for (name, ours) in [
        ("open", control::Open::default().message("s1")),
        ("close", control::close("s1")),
        (
            "new 80x40",
            Message::new(PROTO_SHELL, shell::NEW, "s1")
                .prop(shell::WIDTH, 80)
                .prop(shell::HEIGHT, 40)
                .prop(shell::USER_ID, "u1"),
        ),
        (
            "check-update",
            user(Message::new(PROTO_CLIENT, client::CHECK_UPDATE, "")),
        ),
        ("get_file", user(path.message(file::GET, "s1"))),
        ("put_file", user(put.message("s1"))),
        ("ack 40960", user(file::ack("s1", 40960))),
        ("pf new :22", target.message("s1", "c1")),
        (
            "delay 2500",
            Message::new(PROTO_SHELL, shell::DELAY, "s1").prop(shell::DELAY_VALUE, 2500),
        ),
    ] {
        assert_eq!(
            hex::encode(ours.encode()),
            hex::encode(bytes(name)),
            "{name}"
        );
        assert_eq!(Message::decode(&ours.encode()), Ok(ours), "{name}");
    }
    assert_eq!(file::PutFile::decode(&message("put_file").body), Ok(put));
    assert_eq!(
        forward::Connect::decode(&message("pf new :22").body),
        Ok(target)
    );
    assert_eq!(file::Path::decode(&message("get_file").body), Ok(path));
}

/// The daemons abort a transfer whose offset is any other kind of integer.
#[test]
fn offsets_are_64_bits_wide_whatever_their_value() {
    for offset in [0, 1, 127, 128, 4096, 65_536, 1 << 40] {
        let encoded = file::ack("s", offset).encode();
        let mut wanted = b"\xa6offset\xd3".to_vec();
        wanted.extend(offset.to_be_bytes());
        assert!(
            encoded.windows(wanted.len()).any(|w| w == wanted),
            "{}",
            hex::encode(&encoded)
        );
    }
}

#[test]
fn every_width_of_integer_is_read() {
    for number in [
        "05",
        "cc05",
        "cd0005",
        "ce00000005",
        "cf0000000000000005",
        "d005",
        "d10005",
        "d200000005",
        "d30000000000000005",
    ] {
        let text = format!("81a368647282a570726f746f{number}a570726f707381a66f6666736574{number}");
        let message = Message::decode(&hex::decode(text).unwrap()).unwrap();
        assert_eq!(
            (message.proto, message.props.offset()),
            (5, Some(5)),
            "{number}"
        );
    }
}

/// What web interfaces and old clients send.
#[test]
fn loose_forms_are_read() {
    let keys = message("web keys ls");
    assert_eq!(
        (keys.proto, keys.body.as_slice()),
        (PROTO_SHELL, b"ls\r".as_slice())
    );
    for (text, why) in [
        (
            "82a368647284a570726f746f01a3747970c0a3736964c0a570726f7073c0a4626f6479c0",
            "nil fields",
        ),
        (
            "83a178c3a368647282a570726f746f01a179920102a4626f6479c400",
            "unknown keys",
        ),
        ("81a368647281a570726f746f01ffff", "bytes after the end"),
        ("82a4626f6479c0a368647281a570726f746f01", "the body first"),
        ("8201c3a368647281a570726f746f01", "keys that are no text"),
        (
            "82a368647281a570726f746f01a4626f647980",
            "an empty map as body",
        ),
    ] {
        let message = Message::decode(&hex::decode(text).unwrap());
        assert_eq!(message, Ok(Message::new(1, "", "")), "{why}");
    }
}

#[test]
fn malformed_messages_are_refused() {
    let deep = format!("82a368647281a570726f746f01a178{}c0", "91".repeat(64));
    let long = format!("81a368647282a570726f746f01a3736964d981{}", "61".repeat(129));
    for (text, why) in [
        ("", "nothing"),
        ("c1", "the reserved marker"),
        ("c0", "nil"),
        ("80", "no header"),
        ("81a4626f6479c400", "only a body"),
        ("81a3686472c0", "nil as header"),
        ("81a368647280", "no protocol number"),
        (
            "81a368647281a570726f746fce00010000",
            "a protocol number of 17 bits",
        ),
        ("81a368647281a570726f746fff", "a negative protocol number"),
        ("81a368647281a570726f746fa131", "a protocol number as text"),
        (
            "82a368647281a570726f746f01a4626f647981a178c0",
            "a map as body",
        ),
        (
            "82a368647281a570726f746f01a4626f6479c6ffffffff00",
            "more body than there is",
        ),
        (
            "81a368647282a570726f746f01a3747970a2c328",
            "text that is not UTF-8",
        ),
        (
            "81a368647282a570726f746f01a570726f707301",
            "properties that are no map",
        ),
        ("dfffffffff", "four billion entries"),
        (
            "82a368647281a570726f746f01a178ddffffffff",
            "four billion elements",
        ),
        (deep.as_str(), "too deep"),
        (long.as_str(), "too long a session id"),
    ] {
        let outcome = Message::decode(&hex::decode(text).unwrap());
        assert!(outcome.is_err(), "{why}: {outcome:?}");
    }
    let many = (0..65).fold(Message::new(1, "", ""), |m, n| m.prop(&format!("p{n}"), n));
    assert_eq!(
        Message::decode(&many.encode()),
        Err(SessionError::TooLarge("a number of properties"))
    );
}

#[test]
fn routing_keeps_the_body_and_replaces_the_session() {
    let sent = Message::new(PROTO_SHELL, shell::SHELL, "mine")
        .prop(shell::USER_ID, "somebody")
        .body("ls\r");
    let encoded = sent.encode();
    let seen = MessageRef::decode(&encoded).unwrap();
    let mut props = seen.props().unwrap();
    props.set(shell::USER_ID, "u1");
    let routed = Message::decode(&seen.encode_as("s1", &props)).unwrap();
    assert_eq!(
        routed,
        Message::new(PROTO_SHELL, shell::SHELL, "s1")
            .prop(shell::USER_ID, "u1")
            .body("ls\r")
    );
}

#[test]
fn kinds_and_permissions_of_files() {
    let info = |mode| file::FileInfo {
        mode: Some(mode),
        ..file::FileInfo::default()
    };
    assert!(info(0o644).is_file());
    assert!(info(0x0080_01ed).is_file(), "set-uid");
    for other in [
        0x8010_01ff,
        0x0800_01ff,
        0x0400_0180,
        0x0420_0180,
        0x0200_0180,
        0x0100_0180,
    ] {
        assert!(!info(other).is_file(), "{other:x}");
    }
    assert_eq!(file::unix_permissions(0x8010_01ff), 0o1777);
    assert_eq!(file::unix_permissions(0x00c0_01ed), 0o6755);
}

#[test]
fn timestamps_take_the_form_they_need() {
    for (seconds, nanos, length) in [
        (1_600_000_000, 0, 4),
        (1_600_000_000, 5, 8),
        (1 << 34, 0, 12),
        (-1, 999, 12),
    ] {
        let info = file::FileInfo {
            path: "/x".to_owned(),
            size: Some(1 << 40),
            uid: Some(1000),
            gid: Some(4_294_967_295),
            mode: Some(0o600),
            modtime: Some(file::Timestamp { seconds, nanos }),
        };
        let message = info.message("s");
        let body = Value::decode(&message.body).unwrap();
        let Some(Value::Ext(-1, bytes)) = body.get("modtime") else {
            panic!("{body:?}");
        };
        assert_eq!(bytes.len(), length);
        assert_eq!(file::FileInfo::decode(&message.body), Ok(info));
    }
}

#[test]
fn sizes_of_terminals_need_both_sides() {
    let size = |width, height| {
        shell::size(
            &Props::new()
                .with(shell::WIDTH, width)
                .with(shell::HEIGHT, height),
        )
    };
    assert_eq!(size(80, 24), Some((80, 24)));
    assert_eq!(size(0, 24), None);
    assert_eq!(size(80, 65_536), None);
    assert_eq!(shell::size(&Props::new().with(shell::WIDTH, 80)), None);
    assert_eq!(session::VERSION, 1);
}
