//! Small languages inside of the configuration: maintenance windows and the URIs of keys in tokens.
//!
//! - A window that was understood opens within eight days of any moment, and not before it says.
//! - The PIN in a URI is never shown.

use std::time::Duration;

use ambidex_agent::config::{self, Config, Overrides};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::input::Input;
use crate::scratch;

/// The library of the program that speaks with tokens is that program's own.
#[path = "../../../agent/pkcs11/src/uri.rs"]
mod uri;

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    match kind % 2 {
        0 => window(input),
        _ => token(&String::from_utf8_lossy(input.rest()), kind & 2 != 0),
    }
}

/// What the configuration says, written as the reference's JSON, which holds every text.
fn load(content: &serde_json::Value) -> Option<Config> {
    let folder = scratch::folder("texts");
    let file = folder.join("mender.conf");
    scratch::write(&file, content.to_string().as_bytes());
    let overrides = Overrides {
        conf_dir: Some(folder.clone()),
        data_dir: Some(folder.clone()),
        state_dir: Some(folder),
        config: Some(file),
        ..Overrides::default()
    };
    config::load(&overrides).ok()
}

fn window(mut input: Input<'_>) {
    const WEEK_AND_A_DAY: Duration = Duration::from_secs(8 * 24 * 3600);
    // from 1970 on, to the year 2200
    let second = i64::try_from(input.u64() % 7_258_118_400).unwrap_or(0);
    let text = String::from_utf8_lossy(input.rest());
    let mut lines = text.lines();
    let zone = lines.next().filter(|line| !line.is_empty());
    let times: Vec<&str> = lines.collect();
    let Some(config) =
        load(&json!({ "maintenance_window": { "times": times, "time_zone": zone } }))
    else {
        return;
    };
    let window = config.maintenance_window.expect("it was given");
    let at = |second: i64| Timestamp::from_second(second).expect("a moment in this range");
    let Some(wait) = window.opens_in(at(second)) else {
        return;
    };
    assert!(
        wait >= Duration::from_secs(1) && wait <= WEEK_AND_A_DAY,
        "{wait:?}"
    );
    if zone == Some("UTC") {
        let opening = at(second)
            .checked_add(SignedDuration::try_from(wait).expect("a few days"))
            .expect("a moment in this range");
        assert_eq!(
            window.opens_in(opening),
            None,
            "closed when it should have opened"
        );
        for part in [2, 3, 10] {
            let early = at(second + i64::try_from(wait.as_secs() / part).expect("a few days"));
            assert!(
                early == opening || window.opens_in(early).is_some(),
                "open before it should"
            );
        }
    }
}

/// A PIN that no other part of the text is like.
const PIN: &str = "7391-4608-2275";

fn token(text: &str, first: bool) {
    if text.contains(PIN) {
        return;
    }
    let uri = if first {
        format!("pkcs11:pin-value={PIN};{text}")
    } else {
        format!("pkcs11:{text};pin-value={PIN}")
    };
    let hidden = |shown: String| assert!(!shown.contains(PIN), "{uri} is shown as {shown}");
    match uri::Uri::parse(&uri) {
        Ok(read) => assert!(read.object.is_some() || read.id.is_some()),
        Err(error) => hidden(error.to_string()),
    }
    let Some(config) = load(&json!({ "security": { "auth_private_key": uri } })) else {
        return;
    };
    let source = config.auth_private_key.expect("it was given");
    hidden(source.to_string());
    hidden(format!("{source:?}"));
    assert!(
        matches!(&source, config::KeySource::Token(token) if token.reveal() == uri),
        "the URI is handed on as it is"
    );
}

pub fn seeds() -> Vec<Vec<u8>> {
    let window =
        |second: u64, text: &str| [&[0][..], &second.to_le_bytes(), text.as_bytes()].concat();
    let token = |kind: u8, text: &str| [&[kind][..], text.as_bytes()].concat();
    vec![
        window(
            1_700_000_000,
            "UTC\nMon-Fri 22:00-05:00\nSat,Sun 00:00-24:00",
        ),
        window(1_711_846_800, "local\n01:00-03:00"),
        window(1_711_846_800, "Europe/Berlin\nFri-Mon 2:30-02:31"),
        window(0, "\nsun 23:59-00:00"),
        token(
            1,
            "token=My%20token;serial=12;slot-id=7;object=key;id=%01%ff;type=private;x-v=1?module-path=/m",
        ),
        token(3, "object=key?pin-source=file:/etc/pin&module-name=m"),
        token(1, ""),
    ]
}
