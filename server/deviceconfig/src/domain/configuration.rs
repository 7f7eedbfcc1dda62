//! What a configuration may hold. Pure.

use ambidex_wire::management::deviceconfig::Configuration;
use serde_json::{Map, Value};

use crate::error::DeviceconfigError;

/// Settings of one device (reference: device configuration).
const SETTINGS_MAX: usize = 100;
/// Length of a name and of a value, in characters (reference: device configuration).
const TEXT_CHARACTERS_MAX: usize = 4_096;

/// Takes an object of texts.
pub(crate) fn parse(members: Map<String, Value>) -> Result<Configuration, DeviceconfigError> {
    let invalid =
        |text: String| DeviceconfigError::Invalid(format!("invalid request body: {text}"));
    if members.len() > SETTINGS_MAX {
        return Err(invalid(format!(
            "too many configuration attributes, maximum is {SETTINGS_MAX}"
        )));
    }
    members
        .into_iter()
        .map(|(key, value)| {
            if key.is_empty() {
                return Err(invalid("key: cannot be blank.".to_owned()));
            }
            let Value::String(value) = value else {
                return Err(invalid(format!("value: {key:?} must be a string")));
            };
            let too_long = |text: &str| text.chars().nth(TEXT_CHARACTERS_MAX).is_some();
            if too_long(&key) || too_long(&value) {
                return Err(invalid(format!(
                    "the length of keys and values must be no more than {TEXT_CHARACTERS_MAX}"
                )));
            }
            Ok((key, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taken(value: Value) -> bool {
        match value {
            Value::Object(members) => parse(members).is_ok(),
            _ => false,
        }
    }

    #[test]
    fn only_short_texts_are_settings() {
        let long = |length: usize| "x".repeat(length);
        let many = |count: usize| -> Value {
            let members: Map<String, Value> =
                (0..count).map(|n| (n.to_string(), json!(""))).collect();
            Value::Object(members)
        };
        for (value, wanted) in [
            (json!({}), true),
            (json!({"key": "value", "dollar": "$", "empty": ""}), true),
            (json!({"key": 1}), false),
            (json!({"key": null}), false),
            (json!({"key": false}), false),
            (json!({"key": {}}), false),
            (json!({"": "x"}), false),
            (json!({"key": long(4096)}), true),
            (json!({"key": long(4097)}), false),
            (json!({"key": "ä".repeat(4096)}), true),
            (json!({long(4096): ""}), true),
            (json!({long(4097): ""}), false),
            (many(100), true),
            (many(101), false),
        ] {
            let shown: String = value.to_string().chars().take(40).collect();
            assert_eq!(taken(value), wanted, "{shown}");
        }
    }
}
