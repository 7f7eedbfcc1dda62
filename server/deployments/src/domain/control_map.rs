//! Where the devices of a deployment are to pause, and what they are to do then.
//!
//! The server keeps the map, checks its form and hands it to devices that understand it. Pure.

use serde_json::{Map, Value, json};

use crate::error::Error;

/// States in which a device can be told what to do.
const STATES: [&str; 3] = [
    "ArtifactInstall_Enter",
    "ArtifactReboot_Enter",
    "ArtifactCommit_Enter",
];
/// What a device can do when it enters a state.
const ACTIONS: [&str; 4] = ["continue", "force_continue", "pause", "fail"];
/// What it can do once the map has expired.
const EXPIRE_ACTIONS: [&str; 3] = ["continue", "force_continue", "fail"];
/// Maps of higher priority win over those of lower.
const PRIORITY_MAX: i64 = 10;

/// Checks a map as asked for; `None` when it says nothing. The deployment's id becomes the map's.
///
/// # Errors
/// 400 that names what is wrong.
pub fn parse(map: Option<&Value>, deployment_id: &str) -> Result<Option<String>, Error> {
    let map = match map {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) if map.is_empty() => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(wrong("must be an object")),
    };
    let mut checked = Map::new();
    checked.insert("id".to_owned(), json!(deployment_id));
    for (key, value) in map {
        match key.as_str() {
            "id" => {}
            "priority" => {
                let fits = value
                    .as_i64()
                    .is_some_and(|priority| (-PRIORITY_MAX..=PRIORITY_MAX).contains(&priority));
                if !fits {
                    return Err(wrong(format!(
                        "priority: must be between -{PRIORITY_MAX} and {PRIORITY_MAX}"
                    )));
                }
                checked.insert(key.clone(), value.clone());
            }
            "states" => {
                checked.insert(key.clone(), states(value)?);
            }
            other => return Err(wrong(format!("{}: unknown key", shown(other)))),
        }
    }
    let none = checked
        .get("states")
        .and_then(Value::as_object)
        .is_none_or(Map::is_empty);
    if none {
        return Ok(None);
    }
    checked.entry("priority").or_insert(json!(0));
    Ok(Some(Value::Object(checked).to_string()))
}

fn states(value: &Value) -> Result<Value, Error> {
    let Value::Object(states) = value else {
        return Err(wrong("states: must be an object"));
    };
    for (state, actions) in states {
        if !STATES.contains(&state.as_str()) {
            return Err(wrong(format!("states: {}: unknown state", shown(state))));
        }
        let Value::Object(actions) = actions else {
            return Err(wrong(format!("states: {state}: must be an object")));
        };
        for (key, action) in actions {
            let allowed: &[&str] = match key.as_str() {
                "action" | "on_action_executed" => &ACTIONS,
                "on_map_expire" => &EXPIRE_ACTIONS,
                other => {
                    return Err(wrong(format!(
                        "states: {state}: {}: unknown key",
                        shown(other)
                    )));
                }
            };
            if !action.as_str().is_some_and(|word| allowed.contains(&word)) {
                return Err(wrong(format!(
                    "states: {state}: {key}: must be one of {}",
                    allowed.join(", ")
                )));
            }
        }
    }
    Ok(value.clone())
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn wrong(text: impl std::fmt::Display) -> Error {
    Error::invalid(format!("update_control_map: {text}."))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_map_gets_the_id_of_its_deployment() {
        let map = json!({"id": "x", "states": {"ArtifactReboot_Enter": {"action": "pause"}}});
        let text = parse(Some(&map), "d1").unwrap().unwrap();
        let kept: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            kept,
            json!({"id": "d1", "priority": 0, "states": {"ArtifactReboot_Enter": {"action": "pause"}}})
        );
        for nothing in [json!(null), json!({}), json!({"states": {}})] {
            assert_eq!(parse(Some(&nothing), "d1").unwrap(), None);
        }
        assert_eq!(parse(None, "d1").unwrap(), None);
    }

    #[test]
    fn wrong_maps_are_named() {
        for (map, word) in [
            (json!([]), "must be an object"),
            (json!({"priority": 11}), "priority"),
            (json!({"states": []}), "states: must be"),
            (json!({"states": {"Idle": {}}}), "unknown state"),
            (
                json!({"states": {"ArtifactInstall_Enter": {"action": "wait"}}}),
                "must be one of",
            ),
            (
                json!({"states": {"ArtifactInstall_Enter": {"on_map_expire": "pause"}}}),
                "must be one of",
            ),
            (
                json!({"states": {"ArtifactInstall_Enter": {"when": "now"}}}),
                "unknown key",
            ),
            (json!({"speed": 1}), "unknown key"),
        ] {
            let error = parse(Some(&map), "d1").unwrap_err().to_string();
            assert!(error.contains(word), "{error} lacks {word}");
        }
    }
}
