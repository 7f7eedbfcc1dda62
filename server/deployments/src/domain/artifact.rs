//! An artifact as the server keeps it, and which of several suits a device.

use std::collections::BTreeMap;

use ambidex_wire::management::deployments::{self as wire, ArtifactInfo, Update};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 4096;
/// Combinations of depends values that one artifact may have. Each is a row; 200 device types times
/// a few values of another key stay far below.
pub const COMBINATIONS_MAX: usize = 4096;
/// Bytes of all combinations of one artifact together.
pub const COMBINATION_BYTES_MAX: usize = 4 << 20;

/// The depends key that every artifact has.
pub const DEVICE_TYPE: &str = "device_type";

/// Depends of an artifact: each key with the values that satisfy it.
pub type Depends = BTreeMap<String, Vec<String>>;

/// An artifact in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    pub id: String,
    pub name: String,
    pub description: String,
    /// Names the stored file; never reused.
    pub blob_key: String,
    pub size_bytes: u64,
    pub modified_ms: i64,
    pub device_types: Vec<String>,
    pub depends: Depends,
    pub document: Document,
}

/// What is only shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub version: u32,
    pub signed: bool,
    pub updates: Vec<Update>,
    pub provides: BTreeMap<String, String>,
    pub clears: Vec<String>,
}

impl Artifact {
    /// What installs its payloads; nothing for an artifact without payload.
    pub fn update_types(&self) -> impl Iterator<Item = &str> {
        self.document
            .updates
            .iter()
            .filter_map(|update| update.type_info.kind.as_deref())
    }

    /// The artifact as clients see it.
    pub fn into_wire(self) -> wire::Artifact {
        wire::Artifact {
            id: self.id,
            name: self.name,
            description: self.description,
            device_types_compatible: self.device_types,
            info: ArtifactInfo {
                format: "mender".to_owned(),
                version: self.document.version,
            },
            signed: self.document.signed,
            updates: self.document.updates,
            artifact_provides: self.document.provides,
            artifact_depends: self.depends,
            clears_artifact_provides: self.document.clears,
            size: self.size_bytes,
            modified: ambidex_kit::rfc3339(self.modified_ms),
        }
    }
}

/// What the choice for a device needs to know of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: String,
    pub blob_key: String,
    pub size_bytes: u64,
    pub device_types: Vec<String>,
    pub depends: Depends,
}

/// Chooses the artifact for a device: compatible with its type, every other depends key satisfied by
/// what the device provides, and the smallest of those.
///
/// `provides` is `None` when the device did not say what it provides; artifacts with further depends
/// do not suit it then.
pub fn choose<'a>(
    candidates: &'a [Candidate],
    device_type: &str,
    provides: Option<&BTreeMap<String, String>>,
) -> Option<&'a Candidate> {
    candidates
        .iter()
        .filter(|candidate| {
            candidate
                .device_types
                .iter()
                .any(|known| known == device_type)
        })
        .filter(|candidate| {
            candidate
                .depends
                .iter()
                .filter(|(key, _)| *key != DEVICE_TYPE)
                .all(|(key, values)| {
                    provides
                        .and_then(|provides| provides.get(key))
                        .is_some_and(|value| values.contains(value))
                })
        })
        .min_by(|a, b| (a.size_bytes, &a.id).cmp(&(b.size_bytes, &b.id)))
}

/// Every combination of one value a depends key, as canonical text. Two artifacts of one name may not
/// share one: a device could not tell them apart.
///
/// # Errors
/// 400 beyond the limits.
pub fn combinations(depends: &Depends) -> Result<Vec<String>, Error> {
    let mut combined: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for (key, values) in depends {
        if values.is_empty() {
            continue;
        }
        if combined.len().saturating_mul(values.len()) > COMBINATIONS_MAX {
            return Err(Error::invalid(format!(
                "reading artifact error: the depends have more than {COMBINATIONS_MAX} combinations; \
                 list fewer values"
            )));
        }
        combined = combined
            .iter()
            .flat_map(|prefix| {
                values.iter().map(move |value| {
                    let mut longer = prefix.clone();
                    longer.push((key.as_str(), value.as_str()));
                    longer
                })
            })
            .collect();
    }
    let mut texts: Vec<String> = combined
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Internal(format!("depends combination as JSON: {error}")))?;
    texts.sort_unstable();
    texts.dedup();
    if texts.iter().map(String::len).sum::<usize>() > COMBINATION_BYTES_MAX {
        return Err(Error::invalid(
            "reading artifact error: the combinations of depends are too long; list fewer values",
        ));
    }
    Ok(texts)
}

/// Checks a description.
///
/// # Errors
/// 400 beyond [`DESCRIPTION_CHARS_MAX`].
pub fn check_description(text: &str) -> Result<(), Error> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(Error::invalid(format!(
            "description: the length must be no more than {DESCRIPTION_CHARS_MAX}."
        )));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &[&str])]) -> Depends {
        pairs
            .iter()
            .map(|(key, values)| {
                (
                    (*key).to_owned(),
                    values.iter().map(|value| (*value).to_owned()).collect(),
                )
            })
            .collect()
    }

    fn candidate(id: &str, size_bytes: u64, depends: &[(&str, &[&str])]) -> Candidate {
        let depends = map(depends);
        Candidate {
            id: id.to_owned(),
            blob_key: id.to_owned(),
            size_bytes,
            device_types: depends.get(DEVICE_TYPE).cloned().unwrap_or_default(),
            depends,
        }
    }

    fn provides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_smallest_that_suits_is_chosen() {
        let candidates = [
            candidate("big", 9, &[(DEVICE_TYPE, &["a", "b"])]),
            candidate("small", 5, &[(DEVICE_TYPE, &["a"]), ("key", &["1", "2"])]),
            candidate("tiny", 1, &[(DEVICE_TYPE, &["a"]), ("key", &["3"])]),
        ];
        let id = |device_type: &str, provides: Option<&BTreeMap<String, String>>| {
            choose(&candidates, device_type, provides).map(|candidate| candidate.id.clone())
        };
        assert_eq!(
            id("a", Some(&provides(&[("key", "2")]))),
            Some("small".into())
        );
        assert_eq!(
            id("a", Some(&provides(&[("key", "3")]))),
            Some("tiny".into())
        );
        assert_eq!(
            id("a", Some(&provides(&[("key", "4")]))),
            Some("big".into())
        );
        assert_eq!(id("a", None), Some("big".into()));
        assert_eq!(
            id("b", Some(&provides(&[("key", "2")]))),
            Some("big".into())
        );
        assert_eq!(id("c", Some(&provides(&[]))), None);
    }

    #[test]
    fn combinations_are_the_product_of_the_values() {
        let all =
            combinations(&map(&[(DEVICE_TYPE, &["a", "b"]), ("k", &["1", "2", "2"])])).unwrap();
        assert_eq!(
            all,
            [
                r#"[["device_type","a"],["k","1"]]"#,
                r#"[["device_type","a"],["k","2"]]"#,
                r#"[["device_type","b"],["k","1"]]"#,
                r#"[["device_type","b"],["k","2"]]"#,
            ]
        );
    }

    #[test]
    fn combinations_have_a_limit() {
        let values: Vec<String> = (0..64).map(|n| n.to_string()).collect();
        let two: Depends = ["a", "b"]
            .into_iter()
            .map(|key| (key.to_owned(), values.clone()))
            .collect();
        assert_eq!(combinations(&two).unwrap().len(), COMBINATIONS_MAX);
        let mut more = two;
        more.insert("c".to_owned(), vec!["1".to_owned(), "2".to_owned()]);
        assert!(
            combinations(&more)
                .unwrap_err()
                .to_string()
                .contains("combinations")
        );
    }
}
