//! Provides and clears that are written unless the author says otherwise
//! (artifact-format reference, section 9).

use std::collections::BTreeMap;

use crate::header::{Payload, ROOTFS_IMAGE};

/// The provides key of the image's digest; `legacy` is the spelling of clients before version 3.
#[must_use]
pub fn rootfs_checksum_key(legacy: bool) -> &'static str {
    if legacy {
        "rootfs_image_checksum"
    } else {
        "rootfs-image.checksum"
    }
}

/// How the version of the software in the artifact is recorded on the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoftwareVersion {
    /// Part of the device that the software lives in; `rootfs-image` unless given.
    pub filesystem: Option<String>,
    /// Name of the software; for update modules the payload type unless given.
    pub name: Option<String>,
    /// Version; the artifact name unless given.
    pub version: Option<String>,
    /// Write no version unless one is given, and no default list of clears.
    pub no_default: bool,
    /// Write no default list of clears.
    pub no_default_clears: bool,
}

impl SoftwareVersion {
    /// Adds the version to `provides` and the default globs behind those of `clears`. A key that
    /// `provides` has already is only replaced when a part of the version was given explicitly.
    pub fn apply(
        &self,
        payload: &Payload,
        artifact_name: &str,
        provides: &mut BTreeMap<String, String>,
        clears: &mut Option<Vec<String>>,
    ) {
        let Some(type_name) = payload.type_name() else {
            return;
        };
        let filesystem = self.filesystem.as_deref().unwrap_or(ROOTFS_IMAGE);
        let name = match (&self.name, payload) {
            (Some(name), _) => Some(name.as_str()),
            (None, Payload::Module(_)) => Some(type_name),
            (None, _) => None,
        };
        let prefix = match name {
            Some(name) => format!("{filesystem}.{name}"),
            None => filesystem.to_owned(),
        };
        let key = format!("{prefix}.version");
        let explicit = self.version.is_some() || self.name.is_some() || self.filesystem.is_some();
        let wanted = !self.no_default || self.version.is_some();
        if wanted && (explicit || !provides.contains_key(&key)) {
            provides.insert(
                key,
                self.version
                    .clone()
                    .unwrap_or_else(|| artifact_name.to_owned()),
            );
        }
        if self.no_default || self.no_default_clears {
            return;
        }
        let list = clears.get_or_insert_default();
        // A whole new root file system also replaces what older clients recorded about it.
        if *payload == Payload::RootfsImage && filesystem == ROOTFS_IMAGE && name.is_none() {
            list.push("artifact_group".into());
            list.push("rootfs_image_checksum".into());
        }
        list.push(format!("{prefix}.*"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        payload: &Payload,
        version: &SoftwareVersion,
        provides: &[(&str, &str)],
        clears: Option<&[&str]>,
    ) {
        let mut got_provides = BTreeMap::new();
        let mut got_clears = None;
        version.apply(payload, "release-1", &mut got_provides, &mut got_clears);
        let expected: BTreeMap<String, String> = provides
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(got_provides, expected);
        assert_eq!(
            got_clears,
            clears.map(|list| list
                .iter()
                .map(|glob| (*glob).to_owned())
                .collect::<Vec<_>>())
        );
    }

    #[test]
    fn table_of_defaults() {
        let rootfs = Payload::RootfsImage;
        let module = Payload::Module("app".into());
        let plain = SoftwareVersion::default();
        let named = SoftwareVersion {
            name: Some("os".into()),
            version: Some("2".into()),
            ..plain.clone()
        };
        let placed = SoftwareVersion {
            filesystem: Some("data".into()),
            ..plain.clone()
        };
        let none = SoftwareVersion {
            no_default: true,
            ..plain.clone()
        };
        let only_given = SoftwareVersion {
            version: Some("7".into()),
            ..none.clone()
        };
        let no_clears = SoftwareVersion {
            no_default_clears: true,
            ..plain.clone()
        };
        check(
            &rootfs,
            &plain,
            &[("rootfs-image.version", "release-1")],
            Some(&["artifact_group", "rootfs_image_checksum", "rootfs-image.*"]),
        );
        check(
            &rootfs,
            &named,
            &[("rootfs-image.os.version", "2")],
            Some(&["rootfs-image.os.*"]),
        );
        check(
            &rootfs,
            &placed,
            &[("data.version", "release-1")],
            Some(&["data.*"]),
        );
        check(&rootfs, &none, &[], None);
        check(&rootfs, &only_given, &[("rootfs-image.version", "7")], None);
        check(
            &rootfs,
            &no_clears,
            &[("rootfs-image.version", "release-1")],
            None,
        );
        check(
            &module,
            &plain,
            &[("rootfs-image.app.version", "release-1")],
            Some(&["rootfs-image.app.*"]),
        );
        check(
            &module,
            &placed,
            &[("data.app.version", "release-1")],
            Some(&["data.app.*"]),
        );
        check(&Payload::Empty, &named, &[], None);
    }

    #[test]
    fn given_values_stand() {
        let mut provides = BTreeMap::from([("rootfs-image.version".to_owned(), "mine".to_owned())]);
        let mut clears = Some(vec!["first.*".to_owned()]);
        SoftwareVersion::default().apply(&Payload::RootfsImage, "n", &mut provides, &mut clears);
        assert_eq!(provides["rootfs-image.version"], "mine");
        assert_eq!(
            clears
                .as_deref()
                .and_then(<[String]>::first)
                .map(String::as_str),
            Some("first.*")
        );
        let given = SoftwareVersion {
            version: Some("2".into()),
            ..SoftwareVersion::default()
        };
        given.apply(&Payload::RootfsImage, "n", &mut provides, &mut clears);
        assert_eq!(provides["rootfs-image.version"], "2");
    }
}
