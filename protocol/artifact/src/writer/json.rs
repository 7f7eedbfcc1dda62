//! The JSON of the header, byte for byte as the reference tool writes it: fixed key order, no
//! blanks, maps sorted, and `<`, `>`, `&` escaped.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::spec::{ArtifactSpec, TypeInfo};
use crate::header::Payload;

pub(super) fn header_info(spec: &ArtifactSpec) -> Vec<u8> {
    #[derive(Serialize)]
    struct Info<'a> {
        payloads: [Value; 1],
        artifact_provides: Provides<'a>,
        artifact_depends: Depends<'a>,
    }
    #[derive(Serialize)]
    struct Provides<'a> {
        artifact_name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        artifact_group: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Depends<'a> {
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        artifact_name: &'a [String],
        device_type: &'a [String],
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        artifact_group: &'a [String],
    }
    encode(&Info {
        payloads: [json!({ "type": spec.payload.type_name() })],
        artifact_provides: Provides {
            artifact_name: &spec.name,
            artifact_group: spec.group.as_deref(),
        },
        artifact_depends: Depends {
            artifact_name: &spec.depends_names,
            device_type: &spec.device_types,
            artifact_group: &spec.depends_groups,
        },
    })
}

pub(super) fn type_info(info: &TypeInfo<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Info<'a> {
        #[serde(rename = "type")]
        type_name: Option<&'a str>,
        #[serde(skip_serializing_if = "Map::is_empty")]
        artifact_depends: Map<String, Value>,
        #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
        artifact_provides: &'a std::collections::BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        clears_artifact_provides: Option<&'a [String]>,
    }
    let depends = info.depends.iter().map(|(key, values)| {
        let value = match values.as_slice() {
            [one] => json!(one),
            many => json!(many),
        };
        (key.clone(), value)
    });
    encode(&Info {
        type_name: info.payload.type_name(),
        artifact_depends: depends.collect(),
        artifact_provides: &info.provides,
        clears_artifact_provides: info.clears,
    })
}

/// `None` when the member is left out. A root file system has one without content.
pub(super) fn meta_data(spec: &ArtifactSpec) -> Option<Vec<u8>> {
    match (&spec.meta_data, &spec.payload) {
        (Some(meta_data), _) if !meta_data.is_empty() => Some(encode(meta_data)),
        (_, Payload::RootfsImage) => Some(Vec::new()),
        _ => None,
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut out, Escaping,
        ))
        .expect("invariant: strings, lists and string-keyed maps always serialise into memory");
    out
}

/// Compact output that can stand inside HTML.
struct Escaping;

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut characters = special.chars();
            if let Some(character) = characters.next() {
                write!(out, "\\u{:04x}", u32::from(character))?;
            }
            rest = characters.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}
