//! Which device is meant: its id, a value of its identity, or the beginning of either.

use ambidex_wire::management::devauth;
use anyhow::anyhow;
use serde_json::Value;

use crate::exit::Failure;
use crate::fleet::api::{Api, decode};
use crate::fleet::table::plain;

/// Devices that are named when several fit.
const SHOWN_MAX: usize = 5;

/// A device that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub id: String,
    /// As the user called it.
    pub name: String,
}

/// What finding looks at.
struct Known {
    id: String,
    identity: Vec<String>,
}

/// Finds the accepted device that `wanted` means.
pub async fn find(api: &Api, wanted: &str) -> Result<Device, Failure> {
    let wanted = wanted.trim();
    if wanted.is_empty() {
        return Err(Failure::usage(
            "name the device; see: ambidex devices list --status accepted",
        ));
    }
    let doing = format!("cannot find the device {wanted}");
    let device = |id: &str| Device {
        id: id.to_owned(),
        name: wanted.to_owned(),
    };
    // An id needs no search, and no permission to list devices.
    if looks_like_an_id(wanted) {
        let path = ["v1", "deviceconnect", "devices", wanted];
        if api.get_if_known(&path, &doing).await?.is_some() {
            return Ok(device(wanted));
        }
    }
    let query = [("status", "accepted".to_owned())];
    let mut known = Vec::new();
    for value in &api
        .list(&["v2", "devauth", "devices"], &query, &doing)
        .await?
    {
        let found: devauth::Device = decode(value, "a device")?;
        known.push(Known {
            identity: found.identity_data.values().map(text).collect(),
            id: found.id,
        });
    }
    match choose(&known, wanted).as_slice() {
        [one] => Ok(device(&one.id)),
        [] => Err(anyhow!(
            "no accepted device has the id or the identity value {wanted:?}, or one that begins so; see: ambidex devices list --status accepted"
        )
        .into()),
        several => {
            let shown: Vec<String> = several
                .iter()
                .take(SHOWN_MAX)
                .map(|known| format!("\n  {}  {}", known.id, plain(&known.identity.join(" "))))
                .collect();
            Err(Failure::usage(format!(
                "{wanted:?} means {} devices; say more of it:{}{}",
                several.len(),
                shown.concat(),
                if several.len() > SHOWN_MAX { "\n  …" } else { "" }
            )))
        }
    }
}

/// Whole ids and values before beginnings of them; upper and lower case are the same.
fn choose<'a>(known: &'a [Known], wanted: &str) -> Vec<&'a Known> {
    let wanted = wanted.to_lowercase();
    let pick = |fits: &dyn Fn(&str) -> bool| -> Vec<&'a Known> {
        known
            .iter()
            .filter(|known| {
                std::iter::once(&known.id)
                    .chain(&known.identity)
                    .any(|text| fits(&text.to_lowercase()))
            })
            .collect()
    };
    let whole = pick(&|text| text == wanted);
    if whole.is_empty() {
        pick(&|text| text.starts_with(&wanted))
    } else {
        whole
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn looks_like_an_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok_and(|id| id.hyphenated().to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_come_before_beginnings() {
        let known: Vec<Known> = [
            ("5a8f0c9e-0000-4000-8000-000000000001", "02:00:00:00:00:01"),
            ("5a8f0c9e-0000-4000-8000-000000000002", "02:00:00:00:00:02"),
            ("77777777-0000-4000-8000-000000000003", "pump"),
            ("88888888-0000-4000-8000-000000000004", "PUMP-2"),
        ]
        .into_iter()
        .map(|(id, value)| Known {
            id: id.to_owned(),
            identity: vec![value.to_owned(), "5".to_owned()],
        })
        .collect();
        let count = |wanted: &str| choose(&known, wanted).len();
        for (wanted, found) in [
            ("5a8f0c9e-0000-4000-8000-000000000002", 1),
            ("5a8f0c9e", 2),
            ("7777", 1),
            ("02:00:00:00:00:01", 1),
            ("02:00", 2),
            ("pump", 1),
            ("pump-", 1),
            ("Pu", 2),
            ("valve", 0),
            ("5", 4),
        ] {
            assert_eq!(count(wanted), found, "{wanted}");
        }
        assert_eq!(choose(&known, "PUMP")[0].identity[0], "pump");
    }

    #[test]
    fn only_ids_look_like_ids() {
        assert!(looks_like_an_id("5a8f0c9e-0000-4000-8000-000000000001"));
        assert!(!looks_like_an_id("5a8f0c9e00004000800000000000000001"));
        assert!(!looks_like_an_id("5a8f0c9e000040008000000000000001"));
        assert!(!looks_like_an_id("pump"));
    }
}
