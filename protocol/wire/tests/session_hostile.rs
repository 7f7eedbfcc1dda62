//! Hostile bytes: never a panic, never more than they bring; and whatever is written is read back.

use ambidex_wire::session::{Message, MessageRef, Props, Value, control, file, forward};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (0..300_i64).prop_map(Value::Int),
        (i64::MAX as u64 + 1..=u64::MAX).prop_map(Value::UInt),
        (-1e300..1e300_f64).prop_map(Value::Float),
        ".{0,40}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
        (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::List),
            proptest::collection::vec((".{0,8}", inner), 0..20).prop_map(Value::Map),
        ]
    })
}

fn message() -> impl Strategy<Value = Message> {
    let props = proptest::collection::btree_map("[a-z_]{1,12}", value(), 0..8);
    let body = proptest::collection::vec(any::<u8>(), 0..1000);
    (any::<u16>(), "[a-z_]{0,16}", "[0-9a-f-]{0,36}", props, body).prop_map(
        |(proto, typ, sid, props, body)| {
            let props = props
                .into_iter()
                .fold(Props::new(), |props, (key, value)| props.with(&key, value));
            Message {
                proto,
                typ,
                sid,
                props,
                body,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(message in message(), cut in any::<prop::sample::Index>()) {
        let encoded = message.encode();
        prop_assert_eq!(Message::decode(&encoded), Ok(message));
        // and nothing short of it is a message
        prop_assert!(Message::decode(&encoded[..cut.index(encoded.len())]).is_err());
    }

    #[test]
    fn values_survive(value in value()) {
        prop_assert_eq!(Value::decode(&value.encode()), Ok(value));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Value::decode(&bytes);
        let _ = Message::decode(&bytes);
        let _ = control::Open::decode(&bytes);
        let _ = control::Accept::decode(&bytes);
        let _ = control::Failure::decode(&bytes);
        let _ = file::FileInfo::decode(&bytes);
        let _ = file::PutFile::decode(&bytes);
        let _ = file::Failure::decode(&bytes);
        let _ = forward::Connect::decode(&bytes);
    }

    #[test]
    fn damaged_messages_are_read_or_refused(
        message in message(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = message.encode();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(read) = MessageRef::decode(&bytes) {
            // what was accepted can be routed, whatever it is
            let props = read.props().expect("properties were checked");
            let routed = Message::decode(&read.encode_as("sid", &props)).expect("it was a message");
            prop_assert_eq!(routed.body.as_slice(), read.body);
        }
    }
}
