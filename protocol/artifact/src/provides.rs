//! What a device provides, what an artifact depends on, and what changes at the commit.
//!
//! Pure rules of the artifact-format reference, section 9, and of the agent-behaviour reference,
//! section 6.3. Agent and server both decide with these.

use std::collections::BTreeMap;

/// Keys and values, sorted by key.
pub type Provides = BTreeMap<String, String>;
/// Keys, each with the values of which one must be met.
pub type Depends = BTreeMap<String, Vec<String>>;

/// A dependency that a device does not meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the artifact needs {key} to be {}; the device has {}",
    one_of(.wanted),
    .found.as_ref().map_or_else(|| "none".to_owned(), |found| format!("{found:?}"))
)]
pub struct Unmet {
    /// Which key.
    pub key: String,
    /// Values that would do.
    pub wanted: Vec<String>,
    /// What the device has.
    pub found: Option<String>,
}

fn one_of(values: &[String]) -> String {
    match values {
        [one] => format!("{one:?}"),
        many => format!("one of {many:?}"),
    }
}

/// Checks that a device of `device_type` which provides `provides` may install an artifact with
/// `depends` ([`Header::depends`](crate::Header::depends)): for every key one of the values.
/// `provides` holds `artifact_name` and `artifact_group` beside the other keys.
///
/// # Errors
/// The first dependency that is not met; `device_type` is looked at before the others.
pub fn check_depends(
    depends: &Depends,
    device_type: &str,
    provides: &Provides,
) -> Result<(), Unmet> {
    let mut keys: Vec<&String> = depends.keys().collect();
    keys.sort_by_key(|key| key.as_str() != "device_type");
    for key in keys {
        let wanted = &depends[key];
        let found = match key.as_str() {
            "device_type" => Some(device_type),
            key => provides.get(key).map(String::as_str),
        };
        if !found.is_some_and(|found| wanted.iter().any(|value| value == found)) {
            return Err(Unmet {
                key: key.clone(),
                wanted: wanted.clone(),
                found: found.map(str::to_owned),
            });
        }
    }
    Ok(())
}

/// What a committed artifact says about provides.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// Artifact name.
    pub name: &'a str,
    /// Artifact group, if it has one.
    pub group: Option<&'a str>,
    /// `artifact_provides` of `type-info`.
    pub type_provides: &'a Provides,
    /// `clears_artifact_provides`; `None` when absent.
    pub clears: Option<&'a [String]>,
}

impl<'a> From<&'a crate::Header> for Committed<'a> {
    fn from(header: &'a crate::Header) -> Self {
        Self {
            name: &header.name,
            group: header.group.as_deref(),
            type_provides: &header.type_provides,
            clears: header.clears_provides.as_deref(),
        }
    }
}

/// What the device provides after the commit: what it provided, without what is cleared, with what
/// is new on top. An absent list of clears forgets everything but name and group; the name is
/// always replaced; the group stays unless it is cleared or set.
#[must_use]
pub fn commit(stored: &Provides, artifact: &Committed<'_>) -> Provides {
    let kept = |key: &str| match artifact.clears {
        None => key == "artifact_group",
        Some(globs) => !globs.iter().any(|glob| glob_matches(glob, key)),
    };
    let mut provides: Provides = stored
        .iter()
        .filter(|(key, _)| kept(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    provides.extend(
        artifact
            .type_provides
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    provides.insert("artifact_name".into(), artifact.name.to_owned());
    if let Some(group) = artifact.group {
        provides.insert("artifact_group".into(), group.to_owned());
    }
    provides
}

/// Whether `glob` matches the whole of `key`. `*` stands for any run of characters; nothing else is
/// special.
#[must_use]
pub fn glob_matches(glob: &str, key: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == key;
    };
    let Some(mut key) = key.strip_prefix(first) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return key.ends_with(part);
        }
        // The leftmost place leaves the most for the parts that follow.
        let Some(at) = key.find(part) else {
            return false;
        };
        key = &key[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Provides {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn globs() {
        for (glob, key, expected) in [
            ("rootfs-image.*", "rootfs-image.version", true),
            ("rootfs-image.*", "rootfs-image.", true),
            ("rootfs-image.*", "rootfs-image", false),
            ("rootfs-image.*", "x.rootfs-image.version", false),
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*.version", "a.version", true),
            ("*.version", "a.versions", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("**", "x", true),
            ("a?c", "abc", false),
            ("[ab]", "a", false),
            ("ä*", "äö", true),
        ] {
            assert_eq!(glob_matches(glob, key), expected, "{glob:?} {key:?}");
        }
    }

    #[test]
    fn commit_rules() {
        let stored = map(&[
            ("artifact_name", "old"),
            ("artifact_group", "g"),
            ("rootfs-image.version", "1"),
            ("rootfs-image.app.version", "2"),
            ("data-partition.x.version", "3"),
        ]);
        let new = map(&[("rootfs-image.version", "9")]);
        let none = map(&[]);
        let after = |provides: &Provides, clears: Option<&[&str]>, group| {
            let clears: Option<Vec<String>> =
                clears.map(|globs| globs.iter().map(|glob| (*glob).to_owned()).collect());
            commit(
                &stored,
                &Committed {
                    name: "new",
                    group,
                    type_provides: provides,
                    clears: clears.as_deref(),
                },
            )
        };
        assert_eq!(
            after(&none, None, None),
            map(&[("artifact_name", "new"), ("artifact_group", "g")])
        );
        assert_eq!(
            after(&new, None, Some("h")),
            map(&[
                ("artifact_name", "new"),
                ("artifact_group", "h"),
                ("rootfs-image.version", "9")
            ])
        );
        let mut all = stored.clone();
        all.insert("artifact_name".into(), "new".into());
        assert_eq!(after(&none, Some(&[]), None), all);
        assert_eq!(
            after(&new, Some(&["artifact_group", "rootfs-image.*"]), None),
            map(&[
                ("artifact_name", "new"),
                ("data-partition.x.version", "3"),
                ("rootfs-image.version", "9")
            ])
        );
    }

    #[test]
    fn dependencies() {
        let depends: Depends = [
            (
                "device_type".to_owned(),
                vec!["qemu".to_owned(), "rpi4".to_owned()],
            ),
            (
                "artifact_name".to_owned(),
                vec!["release-0".to_owned(), "release-1".to_owned()],
            ),
        ]
        .into();
        assert!(check_depends(&depends, "qemu", &map(&[("artifact_name", "release-1")])).is_ok());
        let unmet = check_depends(&depends, "bbb", &map(&[])).unwrap_err();
        assert_eq!(unmet.key, "device_type");
        assert_eq!(
            unmet.to_string(),
            r#"the artifact needs device_type to be one of ["qemu", "rpi4"]; the device has "bbb""#
        );
        let unmet =
            check_depends(&depends, "qemu", &map(&[("artifact_name", "release-9")])).unwrap_err();
        assert_eq!(
            (unmet.key.as_str(), unmet.found.as_deref()),
            ("artifact_name", Some("release-9"))
        );
        let unmet = check_depends(&depends, "qemu", &map(&[])).unwrap_err();
        assert_eq!(unmet.found, None);
    }
}
