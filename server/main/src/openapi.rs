//! The API as an OpenAPI 3.1 document: one file a service under `openapi/`, put together here.
//!
//! The files are the contract that the tests in `tests/contract` hold against a running server: every
//! documented operation is routed, guarded and answers as its schemas say. An operation of the
//! specification carries its number as `x-operation`.

use anyhow::{Context as _, bail};
use axum::Router;
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value};

/// Where both listeners serve their part of the document.
const PATH: &str = "/api/openapi.json";

const COMMON: &str = include_str!("../openapi/common.json");
const PARTS: &[(&str, &str)] = &[
    ("devauth", include_str!("../openapi/devauth.json")),
    ("inventory", include_str!("../openapi/inventory.json")),
    ("deployments", include_str!("../openapi/deployments.json")),
    ("useradm", include_str!("../openapi/useradm.json")),
    ("tenantadm", include_str!("../openapi/tenantadm.json")),
    ("auditlogs", include_str!("../openapi/auditlogs.json")),
    (
        "deviceconnect",
        include_str!("../openapi/deviceconnect.json"),
    ),
    ("deviceconfig", include_str!("../openapi/deviceconfig.json")),
    ("workflows", include_str!("../openapi/workflows.json")),
];

/// Which operations a document holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// What the public listener serves: devices and management.
    Public,
    /// What the internal listener serves.
    Internal,
    /// Everything.
    All,
}

impl Audience {
    fn holds(self, path: &str) -> bool {
        let public = path.starts_with("/api/devices/") || path.starts_with("/api/management/");
        match self {
            Audience::Public => public,
            Audience::Internal => !public,
            Audience::All => true,
        }
    }
}

/// The document for `audience`.
///
/// # Errors
/// When a file is not JSON or two files define the same thing: a mistake in this program, found by its tests.
pub(crate) fn document(audience: Audience) -> anyhow::Result<Value> {
    let mut whole: Value = serde_json::from_str(COMMON).context("common.json")?;
    whole["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    for (name, text) in PARTS {
        let part: Value = serde_json::from_str(text).with_context(|| format!("{name}.json"))?;
        for pointer in ["/paths", "/components/schemas"] {
            let from = part.pointer(pointer).and_then(Value::as_object);
            let into = whole.pointer_mut(pointer).and_then(Value::as_object_mut);
            if let (Some(from), Some(into)) = (from, into) {
                merge(into, from).with_context(|| format!("{name}.json{pointer}"))?;
            }
        }
    }
    if let Some(paths) = whole["paths"].as_object_mut() {
        paths.retain(|path, _| audience.holds(path));
    }
    Ok(whole)
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) -> anyhow::Result<()> {
    for (key, value) in from {
        if into.insert(key.clone(), value.clone()).is_some() {
            bail!("{key} is defined twice");
        }
    }
    Ok(())
}

/// The route that serves the document of `audience`, to anybody: it holds nothing secret.
///
/// # Errors
/// As [`document`].
pub(crate) fn routes(audience: Audience) -> anyhow::Result<Router> {
    let text = serde_json::to_string(&document(audience)?)?;
    let text = axum::body::Bytes::from(text);
    Ok(Router::new().route(
        PATH,
        get(move || {
            let body = text.clone();
            async move {
                (
                    [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                    body,
                )
            }
        }),
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    match inner.as_str() {
                        Some(target) if key == "$ref" => {
                            found.insert(target);
                        }
                        _ => references(inner, found),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }

    /// Adds the places below `value` where an object is described without saying what it holds.
    fn vague(value: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(object) = value.as_object() {
            let says = ["properties", "additionalProperties", "maxProperties"];
            let said = |key: &&str| object.get(*key).is_some_and(|said| *said != json!({}));
            if object.get("type").is_some_and(|kind| kind == "object") && !says.iter().any(said) {
                found.push(at.to_owned());
            }
        }
        let below: Vec<(String, &Value)> = match value {
            Value::Object(object) => object.iter().map(|(key, v)| (key.clone(), v)).collect(),
            Value::Array(list) => list.iter().map(|v| ("-".to_owned(), v)).collect(),
            _ => Vec::new(),
        };
        for (key, value) in below {
            vague(value, &format!("{at}/{key}"), found);
        }
    }

    #[test]
    fn every_object_says_what_it_holds() {
        let document = document(Audience::All).unwrap();
        let mut found = Vec::new();
        vague(&document, "", &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn every_reference_resolves_and_every_definition_is_used() {
        let document = document(Audience::All).unwrap();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        for target in &used {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        for name in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            let target = format!("#/components/schemas/{name}");
            assert!(used.contains(target.as_str()), "{name} is not used");
        }
    }

    #[test]
    fn operations_have_unique_names_and_fit_their_paths() {
        let document = document(Audience::All).unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} stands twice");
                let secured = operation.get("security").is_some();
                assert_eq!(
                    secured,
                    Audience::Public.holds(path),
                    "{method} {path}: who may call it is said for public operations and for no other"
                );
                let named: BTreeSet<&str> = operation["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|p| p["in"] == "path")
                    .filter_map(|p| p["name"].as_str())
                    .collect();
                let in_path: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
                assert_eq!(named, in_path, "{method} {path}");
            }
        }
    }
}
