//! The identity of a device: attributes of the vendor's choice, reduced to one canonical text.
//!
//! Owns the canonical form and its hash, which is what makes two requests come from "the same
//! device". Order of keys and white space never matter, types of values do (`1` is not `"1"`).
//! Rule: reference section 2.1, "identity canonical form".

use serde_json::{Map, Value};
use sha2_signatures::{Digest, Sha256};

/// Longest canonical identity: identities are a handful of serial numbers, and each is held in an index and two services.
pub const IDENTITY_BYTES_MAX: usize = 16 * 1024;

/// A device identity in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    canonical: String,
    hash: String,
}

/// Why a text is no identity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    #[error("id_data is not valid JSON: {0}")]
    NotJson(String),
    #[error("id_data must be a JSON object")]
    NotAnObject,
    #[error("id_data: non zero value required;")]
    Empty,
    #[error(
        "id_data is longer than {IDENTITY_BYTES_MAX} bytes: send only what identifies the device"
    )]
    TooLong,
}

impl Identity {
    /// Reads the text of a JSON object, as `id_data` of an authentication request carries it.
    pub fn parse(text: &str) -> Result<Identity, IdentityError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| IdentityError::NotJson(error.to_string()))?;
        match value {
            Value::Object(object) => Identity::from_object(&object),
            _ => Err(IdentityError::NotAnObject),
        }
    }

    /// Takes an object, as preauthorisation carries it.
    pub fn from_object(object: &Map<String, Value>) -> Result<Identity, IdentityError> {
        if object.is_empty() {
            return Err(IdentityError::Empty);
        }
        let mut canonical = String::new();
        write_object(object, &mut canonical);
        if canonical.len() > IDENTITY_BYTES_MAX {
            return Err(IdentityError::TooLong);
        }
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        Ok(Identity { canonical, hash })
    }

    /// The canonical text: keys sorted at every level, no spaces.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// SHA-256 of the canonical text, in hexadecimal digits: the key of uniqueness.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number.as_f64().unwrap_or_default(), out),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => write_object(object, out),
    }
}

fn write_object(object: &Map<String, Value>, out: &mut String) {
    let mut entries: Vec<(&String, &Value)> = object.iter().collect();
    entries.sort_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
    out.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(key, out);
        out.push(':');
        write_value(value, out);
    }
    out.push('}');
}

/// The form in which existing installations hash numbers: the shortest digits of the 64-bit float, with an exponent
/// only below 1e-6 and from 1e21 on.
fn write_number(number: f64, out: &mut String) {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        out.push_str(digits);
        out.push('e');
        if !exponent.starts_with('-') {
            out.push('+');
        }
        out.push_str(exponent);
    } else {
        out.push_str(&number.to_string());
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        assert_eq!(Identity::parse(text).unwrap().canonical(), canonical);
    }

    #[test]
    fn keys_are_sorted_at_every_level_and_spaces_dropped() {
        check(
            r#" { "b" : 1, "a": {"z": [1, {"y":2,"x":3}], "m": null} } "#,
            r#"{"a":{"m":null,"z":[1,{"x":3,"y":2}]},"b":1}"#,
        );
    }

    #[test]
    fn numbers_take_the_shortest_float_form() {
        check(
            r#"{"a":1.0,"b":1e21,"c":1.5e-7,"d":100000000000000000000,"e":0.000001,"f":-0.0,"g":12345678901234567890}"#,
            r#"{"a":1,"b":1e+21,"c":1.5e-7,"d":100000000000000000000,"e":0.000001,"f":-0,"g":12345678901234567000}"#,
        );
    }

    #[test]
    fn text_is_escaped_for_markup_and_control_characters() {
        check(
            "{\"a\":\"<&>\\u2028\\u0001\\t\\\"\\\\é\"}",
            "{\"a\":\"\\u003c\\u0026\\u003e\\u2028\\u0001\\t\\\"\\\\é\"}",
        );
    }

    #[test]
    fn the_type_of_a_value_is_part_of_the_identity() {
        let number = Identity::parse(r#"{"a":1}"#).unwrap();
        let text = Identity::parse(r#"{"a":"1"}"#).unwrap();
        assert_ne!(number.hash(), text.hash());
    }

    #[test]
    fn only_non_empty_objects_of_bounded_length_are_identities() {
        assert_eq!(Identity::parse("[]"), Err(IdentityError::NotAnObject));
        assert_eq!(Identity::parse("{}"), Err(IdentityError::Empty));
        assert!(matches!(
            Identity::parse("{"),
            Err(IdentityError::NotJson(_))
        ));
        assert!(matches!(
            Identity::parse(&"[".repeat(100_000)),
            Err(IdentityError::NotJson(_))
        ));
        let room = IDENTITY_BYTES_MAX - r#"{"a":""}"#.len();
        assert!(Identity::parse(&format!(r#"{{"a":"{}"}}"#, "x".repeat(room))).is_ok());
        assert_eq!(
            Identity::parse(&format!(r#"{{"a":"{}"}}"#, "x".repeat(room + 1))),
            Err(IdentityError::TooLong)
        );
    }
}
