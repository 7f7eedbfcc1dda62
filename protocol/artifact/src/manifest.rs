//! `manifest` and `manifest-augment`: one digest a line.

use std::collections::BTreeMap;

use crate::codec::Compression;
use crate::digest::Sha256Digest;
use crate::error::{Error, check_limit};
use crate::limits::MANIFEST_NAME_CHARS_MAX;
use crate::names::check_payload_name;

/// Directory of payload files in the manifest's names.
pub(crate) const DATA_PREFIX: &str = "data/0000/";

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// `data/0000/FILE`, `header.tar` with its suffix, or `version`.
    pub name: String,
    /// Digest of the file's content, or of the member as it is stored.
    pub sha256: Sha256Digest,
}

/// A checked manifest: every line names something that an artifact can have, once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manifest {
    pub entries: Vec<ManifestEntry>,
    by_name: BTreeMap<String, Sha256Digest>,
    header_member: Option<(String, Compression)>,
}

impl Manifest {
    /// Parses `manifest`: needs the lines of `version` and of the header.
    pub(crate) fn parse(text: &[u8], files_max: usize) -> Result<Self, Error> {
        let manifest = Self::parse_lines(text, "manifest", "header", files_max)?;
        if !manifest.by_name.contains_key("version") {
            return Err(Error::malformed("manifest", "there is no line for version"));
        }
        Ok(manifest)
    }

    /// Parses `manifest-augment`: needs the line of the augmented header.
    pub(crate) fn parse_augment(text: &[u8], files_max: usize) -> Result<Self, Error> {
        let manifest = Self::parse_lines(text, "manifest-augment", "header-augment", files_max)?;
        if manifest.by_name.contains_key("version") {
            return Err(Error::malformed(
                "manifest-augment",
                "version is not part of it",
            ));
        }
        Ok(manifest)
    }

    fn parse_lines(
        text: &[u8],
        place: &str,
        header: &str,
        files_max: usize,
    ) -> Result<Self, Error> {
        let bad = |line: usize, problem: String| {
            Error::malformed(place, format!("line {line}: {problem}"))
        };
        let text =
            std::str::from_utf8(text).map_err(|_| Error::malformed(place, "not UTF-8 text"))?;
        let Some(text) = text.strip_suffix('\n') else {
            return Err(Error::malformed(
                place,
                "the last line does not end; the member is empty or cut off",
            ));
        };
        let mut manifest = Self::default();
        let mut files = 0;
        for (index, line) in text.split('\n').enumerate() {
            let number = index + 1;
            let (digest, name) = line
                .split_once("  ")
                .ok_or_else(|| bad(number, "not a digest, two spaces and a name".into()))?;
            let sha256 = digest
                .parse()
                .map_err(|error| bad(number, format!("{error}")))?;
            if name.chars().count() > MANIFEST_NAME_CHARS_MAX {
                return Err(bad(
                    number,
                    format!("the name has more than {MANIFEST_NAME_CHARS_MAX} characters"),
                ));
            }
            if let Some(file) = name.strip_prefix(DATA_PREFIX) {
                check_payload_name(file).map_err(|problem| bad(number, problem))?;
                files += 1;
                check_limit(
                    "the number of payload files in the manifest",
                    files,
                    files_max as u64,
                )?;
            } else if let Some(compression) = Compression::of_member(name, header) {
                if manifest
                    .header_member
                    .replace((name.to_owned(), compression))
                    .is_some()
                {
                    return Err(bad(number, format!("a second header, {name:?}")));
                }
            } else if name != "version" {
                return Err(bad(
                    number,
                    format!(
                        "{name:?} is nothing that an artifact has; expected {DATA_PREFIX}FILE, {header}.tar or version"
                    ),
                ));
            }
            if manifest.by_name.insert(name.to_owned(), sha256).is_some() {
                return Err(bad(number, format!("{name:?} is listed twice")));
            }
            manifest.entries.push(ManifestEntry {
                name: name.to_owned(),
                sha256,
            });
        }
        if manifest.header_member.is_none() {
            return Err(Error::malformed(
                place,
                format!("there is no line for {header}.tar, so the header cannot be trusted"),
            ));
        }
        Ok(manifest)
    }

    /// Name and compression of the header member that is listed.
    pub(crate) fn header_member(&self) -> Option<(&str, Compression)> {
        self.header_member
            .as_ref()
            .map(|(name, compression)| (name.as_str(), *compression))
    }

    pub(crate) fn digest(&self, name: &str) -> Option<Sha256Digest> {
        self.by_name.get(name).copied()
    }

    /// Compares the digest of `content` with the line of `name`.
    pub(crate) fn check(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let Some(expected) = self.digest(name) else {
            return Err(Error::malformed(
                "manifest",
                format!("there is no line for {name}"),
            ));
        };
        let actual = Sha256Digest::of(content);
        if actual == expected {
            Ok(())
        } else {
            Err(Error::Checksum {
                place: name.to_owned(),
                expected,
                actual,
            })
        }
    }

    /// Payload files in the order of the manifest.
    pub(crate) fn payload_files(&self) -> impl Iterator<Item = (&str, Sha256Digest)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((entry.name.strip_prefix(DATA_PREFIX)?, entry.sha256)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]

    use super::*;

    const D: &str = "96bcd965947569404798bcbdb614f103db5a004eb6e364cfc162c146890ea35b";

    fn check(text: &str) -> Result<Manifest, Error> {
        Manifest::parse(text.as_bytes(), 3)
    }

    #[test]
    fn a_good_manifest_in_any_order() {
        let text =
            format!("{D}  version\n{D}  data/0000/b\n{D}  header.tar.zst\n{D}  data/0000/a\n");
        let manifest = check(&text).unwrap();
        assert_eq!(
            manifest.header_member(),
            Some(("header.tar.zst", Compression::Zstd))
        );
        assert_eq!(
            manifest
                .payload_files()
                .map(|(name, _)| name)
                .collect::<Vec<_>>(),
            ["b", "a"]
        );
    }

    #[test]
    fn bad_manifests() {
        let base = format!("{D}  header.tar\n{D}  version\n");
        assert!(check(&base).is_ok());
        for (bad, why) in [
            (String::new(), "does not end"),
            ("\n".into(), "two spaces"),
            (format!("{base}\n"), "two spaces"),
            (format!("\n{base}"), "two spaces"),
            (base.trim_end().to_owned(), "does not end"),
            (format!("{D}  version\n"), "cannot be trusted"),
            (format!("{D}  header.tar\n"), "no line for version"),
            (format!("{base}{D}  version\n"), "twice"),
            (format!("{base}{D}  header.tar.gz\n"), "second header"),
            (format!("{base}{D}  header.tar\n"), "second header"),
            (
                format!("{base}{D}  other\n"),
                "nothing that an artifact has",
            ),
            (
                format!("{base}{D}  header-augment.tar\n"),
                "nothing that an artifact has",
            ),
            (
                format!("{base}{D}  data/0001/a\n"),
                "nothing that an artifact has",
            ),
            (
                format!("{base}{D}  data/000/a\n"),
                "nothing that an artifact has",
            ),
            (format!("{base}{D}  data/0000/a/b\n"), "not permitted"),
            (format!("{base}{D}  data/0000/../a\n"), "not permitted"),
            (format!("{base}{D}  data/0000/\n"), "empty"),
            (format!("{base}{D} data/0000/a\n"), "two spaces"),
            (format!("{base}{D}\tdata/0000/a\n"), "two spaces"),
            (format!("{base}{D} *data/0000/a\n"), "two spaces"),
            (
                format!("{base}{D}   data/0000/a\n"),
                "nothing that an artifact has",
            ),
            (format!("{base}{D}  data/0000/a\r\n"), "not permitted"),
            (format!("{base}{}  data/0000/a\n", &D[1..]), "64 lower-case"),
            (
                format!("{base}{}  data/0000/a\n", D.to_uppercase()),
                "64 lower-case",
            ),
            (
                format!("{base}{D}  data/0000/{}\n", "a".repeat(91)),
                "more than 100",
            ),
        ] {
            let message = check(&bad).unwrap_err().to_string();
            assert!(message.contains(why), "{bad:?}: {message}");
        }
    }

    #[test]
    fn file_count_at_and_past_the_limit() {
        let mut text = format!("{D}  header.tar\n{D}  version\n");
        for at in 0..3 {
            text += &format!("{D}  data/0000/{at}\n");
        }
        assert!(check(&text).is_ok());
        text += &format!("{D}  data/0000/3\n");
        assert!(matches!(
            check(&text),
            Err(Error::Limit {
                actual: 4,
                limit: 3,
                ..
            })
        ));
    }
}
