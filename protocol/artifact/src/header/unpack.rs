//! From the verified bytes of a header member to a [`Header`].

use serde_json::Value;

use super::info::{self, HeaderInfo, TypeInfo};
use super::{Augment, ExpectedFile, Header, Payload, Script, augment};
use crate::codec::{Compression, Decoded};
use crate::error::{Error, check_limit};
use crate::limits::{INFO_BYTES_MAX, Limits};
use crate::manifest::Manifest;
use crate::names::check_script_name;
use crate::signature::SignatureState;
use crate::source::Source;
use crate::tar::{self, inside};

/// What is known when the header is unpacked.
pub(crate) struct Context<'a> {
    pub version: u8,
    pub manifest: &'a Manifest,
    pub manifest_augment: Option<&'a Manifest>,
    pub signed: bool,
    pub signature: SignatureState,
    pub limits: &'a Limits,
}

/// A header member: name, compression, stored bytes whose digest has been checked.
pub(crate) struct StoredHeader<'a> {
    pub name: &'a str,
    pub compression: Compression,
    pub bytes: &'a [u8],
}

/// The entries of one header archive, in place but not understood.
struct Entries {
    header_info: Vec<u8>,
    scripts: Vec<Script>,
    files: Option<Vec<u8>>,
    type_info: Vec<u8>,
    meta_data: Option<Vec<u8>>,
}

pub(crate) fn unpack(
    context: Context<'_>,
    stored: &StoredHeader<'_>,
    stored_augment: Option<&StoredHeader<'_>>,
) -> Result<Header, Error> {
    let entries = read_entries(stored, context.version, context.limits)?;
    let place = |entry: &str| inside(entry, stored.name);
    let HeaderInfo {
        payload,
        name,
        group,
        device_types,
        depends_names,
        depends_groups,
    } = info::parse_info(&entries.header_info, context.version, &place("header-info"))?;
    let mut type_info = info::parse_type_info(
        &entries.type_info,
        context.version,
        &payload,
        &place("type-info"),
    )?;
    let type_info_type = type_info.type_name.clone();
    let mut meta_data =
        parse_meta_data(&payload, entries.meta_data.as_deref(), &place("meta-data"))?;

    let mut files: Vec<ExpectedFile> = expected_files(context.manifest);
    if let Some(listed) = &entries.files {
        check_listed_files(listed, &files, &place("files"))?;
    }
    let augment = match (stored_augment, context.manifest_augment) {
        (Some(stored), Some(manifest)) => {
            let (part, info, data) = unpack_augment(stored, manifest, context.limits)?;
            augment::merge_type_info(&mut type_info, info);
            meta_data = augment::merge_meta_data(meta_data, data)?;
            for file in expected_files(manifest) {
                if files.iter().any(|known| known.name == file.name) {
                    return Err(Error::malformed(
                        "manifest-augment",
                        format!("{:?} is in manifest too", file.name),
                    ));
                }
                files.push(file);
            }
            Some(part)
        }
        _ => None,
    };
    check_file_count(&payload, files.len())?;

    Ok(Header {
        version: context.version,
        name,
        group,
        device_types,
        depends_names,
        depends_groups,
        payload,
        type_info_type,
        type_provides: type_info.provides,
        type_depends: type_info.depends,
        clears_provides: type_info.clears,
        meta_data,
        meta_data_raw: entries.meta_data.unwrap_or_default(),
        header_info_raw: entries.header_info,
        type_info_raw: entries.type_info,
        scripts: entries.scripts,
        signed: context.signed,
        signature: context.signature,
        compression: stored.compression,
        manifest: context.manifest.entries.clone(),
        files,
        augment,
    })
}

fn unpack_augment(
    stored: &StoredHeader<'_>,
    manifest: &Manifest,
    limits: &Limits,
) -> Result<(Augment, TypeInfo, Option<Value>), Error> {
    let entries = read_entries(stored, 3, limits)?;
    let place = |entry: &str| inside(entry, stored.name);
    if !entries.scripts.is_empty() {
        return Err(Error::malformed(
            stored.name,
            "scripts are permitted in the first header only",
        ));
    }
    let payload = info::parse_augment_info(&entries.header_info, &place("header-info"))?;
    let type_info = info::parse_type_info(&entries.type_info, 3, &payload, &place("type-info"))?;
    let meta_data = parse_meta_data(&payload, entries.meta_data.as_deref(), &place("meta-data"))?;
    let augment = Augment {
        payload,
        header_info_raw: entries.header_info,
        type_info_raw: entries.type_info,
        meta_data_raw: entries.meta_data.unwrap_or_default(),
        manifest: manifest.entries.clone(),
    };
    Ok((augment, type_info, meta_data))
}

/// Reads the archive: `header-info`, then scripts, then the one bucket of the one payload in its
/// fixed order; nothing else and nothing twice.
fn read_entries(stored: &StoredHeader<'_>, version: u8, limits: &Limits) -> Result<Entries, Error> {
    let source = Source::new(stored.bytes);
    let mut archive = Decoded::new(
        source,
        stored.bytes.len() as u64,
        stored.name,
        stored.compression,
        limits,
    )?;
    let bad = |problem: String| Error::malformed(stored.name, problem);
    let mut entries = Entries {
        header_info: Vec::new(),
        scripts: Vec::new(),
        files: None,
        type_info: Vec::new(),
        meta_data: None,
    };
    let mut unpacked_bytes = 0_u64;
    // What may come next: 0 header-info, 1 scripts or bucket, then the steps of the bucket.
    let mut step = Step::HeaderInfo;
    while let Some(entry) = tar::next_entry(&mut archive, stored.name)? {
        let (next, limit) = step.then(&entry.name, version, limits).ok_or_else(|| {
            bad(format!(
                "the entry {:?} is unknown, out of order or there twice; expected {}",
                entry.name,
                step.expects()
            ))
        })?;
        unpacked_bytes = unpacked_bytes.saturating_add(entry.size);
        check_limit(
            "the unpacked size in bytes of the header",
            unpacked_bytes,
            limits.header_unpacked_bytes_max,
        )?;
        if next == Step::Scripts {
            check_limit(
                "the number of state scripts",
                entries.scripts.len() as u64 + 1,
                limits.script_count_max as u64,
            )?;
        }
        let content = tar::read_file(&mut archive, &entry, limit, stored.name)?;
        step = next;
        match step {
            Step::HeaderInfo => {}
            Step::AfterHeaderInfo => entries.header_info = content,
            Step::Scripts => {
                let name = entry.name.strip_prefix("scripts/").unwrap_or_default();
                check_script_name(name).map_err(&bad)?;
                if entries.scripts.iter().any(|known| known.name == name) {
                    return Err(bad(format!("the script {name:?} is there twice")));
                }
                entries.scripts.push(Script {
                    name: name.to_owned(),
                    content,
                });
            }
            Step::Files => entries.files = Some(content),
            Step::TypeInfo => entries.type_info = content,
            Step::MetaData => entries.meta_data = Some(content),
        }
    }
    if !matches!(step, Step::TypeInfo | Step::MetaData) {
        return Err(bad(format!(
            "the archive ends where {} is expected",
            step.expects()
        )));
    }
    tar::expect_only_zeros(&mut archive, stored.name)?;
    archive.into_source()?;
    Ok(entries)
}

/// What was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing yet.
    HeaderInfo,
    AfterHeaderInfo,
    Scripts,
    Files,
    TypeInfo,
    MetaData,
}

impl Step {
    /// The step that an entry called `name` makes, and the largest size it may have.
    fn then(self, name: &str, version: u8, limits: &Limits) -> Option<(Self, u64)> {
        let before_bucket = matches!(self, Self::AfterHeaderInfo | Self::Scripts);
        match name {
            "header-info" if self == Self::HeaderInfo => {
                Some((Self::AfterHeaderInfo, INFO_BYTES_MAX))
            }
            "headers/0000/files" if version == 2 && before_bucket => {
                Some((Self::Files, limits.manifest_bytes_max))
            }
            "headers/0000/type-info"
                if version == 2 && self == Self::Files || version == 3 && before_bucket =>
            {
                Some((Self::TypeInfo, INFO_BYTES_MAX))
            }
            "headers/0000/meta-data" if self == Self::TypeInfo => {
                Some((Self::MetaData, limits.meta_data_bytes_max))
            }
            name if name.starts_with("scripts/") && before_bucket => {
                Some((Self::Scripts, limits.script_bytes_max))
            }
            _ => None,
        }
    }

    fn expects(self) -> &'static str {
        match self {
            Self::HeaderInfo => "header-info",
            Self::AfterHeaderInfo | Self::Scripts => "scripts/NAME or the entries of headers/0000",
            Self::Files => "headers/0000/type-info",
            Self::TypeInfo => "headers/0000/meta-data or the end",
            Self::MetaData => "the end",
        }
    }
}

fn parse_meta_data(
    payload: &Payload,
    bytes: Option<&[u8]>,
    place: &str,
) -> Result<Option<Value>, Error> {
    let Some(bytes) = bytes else { return Ok(None) };
    if *payload == Payload::Empty {
        return Err(Error::malformed(place, "an empty payload has no meta-data"));
    }
    // Root file systems are written with a member of no bytes.
    if bytes.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(Error::malformed(place, "meta-data is a JSON object")),
        Err(error) => Err(Error::malformed(place, format!("not JSON ({error})"))),
    }
}

fn expected_files(manifest: &Manifest) -> Vec<ExpectedFile> {
    manifest
        .payload_files()
        .map(|(name, sha256)| ExpectedFile {
            name: name.to_owned(),
            sha256,
        })
        .collect()
}

fn check_listed_files(listed: &[u8], files: &[ExpectedFile], place: &str) -> Result<(), Error> {
    let mut listed = info::parse_files(listed, place)?;
    let mut known: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    listed.sort_unstable();
    known.sort_unstable();
    if listed != known {
        return Err(Error::malformed(
            place,
            "the list of files differs from the manifest",
        ));
    }
    Ok(())
}

fn check_file_count(payload: &Payload, count: usize) -> Result<(), Error> {
    match payload {
        Payload::Empty if count > 0 => Err(Error::malformed(
            "manifest",
            "an empty payload has no files, and the manifest lists some",
        )),
        Payload::RootfsImage if count > 1 => Err(Error::malformed(
            "manifest",
            format!("a rootfs-image has one file, and the manifest lists {count}"),
        )),
        _ => Ok(()),
    }
}
