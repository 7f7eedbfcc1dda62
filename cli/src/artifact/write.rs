//! What all kinds of `artifact write` share: arguments, payload files, the output.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use ambidex_artifact::{
    ArtifactSpec, Compression, CompressionChoice, PayloadSource, SoftwareVersion, write,
};
use anyhow::Context as _;
use clap::Args;

use super::input::{PayloadFile, read_scripts, read_signing_key};
use crate::exit::Failure;
use crate::output_file::{OutputFile, Scratch};
use crate::progress::Progress;

/// A `KEY:VALUE` argument.
#[derive(Debug, Clone)]
pub struct Pair(String, String);

fn pair(text: &str) -> Result<Pair, String> {
    match text.split_once(':') {
        Some((key, value)) if !key.is_empty() => Ok(Pair(key.to_owned(), value.to_owned())),
        _ => Err("expected KEY:VALUE, for example rootfs-image.version:release-1".into()),
    }
}

fn compression(name: &str) -> Result<CompressionChoice, String> {
    name.parse()
        .map_err(|error: ambidex_artifact::UnknownCompression| error.to_string())
}

/// Arguments of every kind.
#[derive(Debug, Args)]
pub struct Common {
    /// Name of the artifact.
    #[arg(short = 'n', long, value_name = "NAME")]
    artifact_name: String,
    /// Type of device that it is for; repeat for several.
    #[arg(
        short = 'c',
        long = "compatible-types",
        visible_short_alias = 't',
        visible_alias = "device-type",
        value_name = "TYPE",
        required = true
    )]
    compatible_types: Vec<String>,
    /// File to write; `-` is standard output. It appears when it is complete.
    #[arg(
        short = 'o',
        long,
        value_name = "FILE",
        default_value = "artifact.mender"
    )]
    output_path: PathBuf,
    /// Private key to sign with: PEM, RSA or ECDSA P-256.
    #[arg(short = 'k', long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Group of artifacts that a device joins by installing it.
    #[arg(short = 'g', long, value_name = "GROUP")]
    provides_group: Option<String>,
    /// Group that the device must be in; repeat for several of which one will do.
    #[arg(short = 'G', long, value_name = "GROUP")]
    depends_groups: Vec<String>,
    /// Artifact that must be installed already; repeat for several of which one will do.
    #[arg(short = 'N', long, value_name = "NAME")]
    artifact_name_depends: Vec<String>,
    /// What the device provides after installing; repeat for several.
    #[arg(short = 'p', long, value_name = "KEY:VALUE", value_parser = pair)]
    provides: Vec<Pair>,
    /// What the device must provide; repeat for several.
    #[arg(short = 'd', long, value_name = "KEY:VALUE", value_parser = pair)]
    depends: Vec<Pair>,
    /// Provides that installing clears, `*` stands for any text; repeat for several.
    #[arg(long, value_name = "GLOB")]
    clears_provides: Vec<String>,
    /// none, gzip, lzma (xz) or zstd. zstd is smaller and faster to install than gzip, and needs a
    /// device client of version 4 or Ambidex.
    #[arg(long, value_name = "NAME", value_parser = compression, default_value = "gzip")]
    compression: CompressionChoice,
    /// Level of the compression: gzip and lzma 0 to 9, zstd 1 to 22.
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<u8>,
    /// Show no progress bar.
    #[arg(long)]
    no_progress: bool,
    /// Format version; only 3 is written.
    #[arg(short = 'v', long = "version", value_name = "VERSION", default_value = "3", value_parser = format_version, hide = true)]
    _format_version: u8,
}

fn format_version(text: &str) -> Result<u8, String> {
    match text {
        "3" => Ok(3),
        "2" => Err(
            "version 2 can be read and is not written; every client of today reads version 3"
                .into(),
        ),
        _ => Err("the version is 3".into()),
    }
}

/// Arguments of the kinds that install software.
#[derive(Debug, Args)]
pub struct Software {
    /// State script, or a directory of them; repeat for several.
    #[arg(short = 's', long = "script", value_name = "FILE")]
    scripts: Vec<PathBuf>,
    /// Part of the device that the software lives in [default: rootfs-image].
    #[arg(long, value_name = "NAME")]
    software_filesystem: Option<String>,
    /// Name of the software in the key of its version.
    #[arg(long, value_name = "NAME")]
    software_name: Option<String>,
    /// Version of the software [default: the artifact name].
    #[arg(long, value_name = "VERSION")]
    software_version: Option<String>,
    /// Write no version of the software, and no default list of what is cleared.
    #[arg(long)]
    no_default_software_version: bool,
    /// Write no default list of what is cleared.
    #[arg(long)]
    no_default_clears_provides: bool,
}

impl Common {
    /// A file for what is needed on the way to the artifact.
    pub fn scratch(&self) -> anyhow::Result<Scratch> {
        Scratch::beside(&self.output_path)
    }

    pub fn no_progress(&self) -> bool {
        self.no_progress
    }

    /// The specification as far as these arguments go.
    pub fn spec(&self, payload: ambidex_artifact::Payload) -> Result<ArtifactSpec, Failure> {
        let mut spec =
            ArtifactSpec::new(payload, &self.artifact_name, self.compatible_types.clone());
        spec.group = self.provides_group.clone();
        spec.depends_groups = self.depends_groups.clone();
        spec.depends_names = self.artifact_name_depends.clone();
        spec.type_provides = unique("--provides", &self.provides)?;
        spec.type_depends = unique("--depends", &self.depends)?
            .into_iter()
            .map(|(key, value)| (key, vec![value]))
            .collect();
        if !self.clears_provides.is_empty() {
            spec.clears_provides = Some(self.clears_provides.clone());
        }
        spec.compression = self.compression;
        if let Some(level) = self.compression_level {
            let most = CompressionChoice::level_max(self.compression.compression);
            let least = u8::from(self.compression.compression == Compression::Zstd);
            if !(least..=most).contains(&level) {
                return Err(Failure::usage(format!(
                    "--compression-level of {} is {least} to {most}, and {level} was given",
                    self.compression.compression
                )));
            }
            spec.compression.level = Some(level);
        }
        Ok(spec)
    }

    /// Writes the artifact of `spec` with the files.
    pub fn write(&self, mut spec: ArtifactSpec, files: &[PayloadFile]) -> Result<(), Failure> {
        let key = self.key.as_deref().map(read_signing_key).transpose()?;
        let latest = source_date_epoch()?;
        // The newest file dates the artifact: the same input gives the same artifact on any day.
        spec.mtime_s =
            latest.unwrap_or_else(|| files.iter().map(|file| file.mtime_s).max().unwrap_or(0));
        let sources: Vec<PayloadSource<'_>> =
            files.iter().map(|file| file.source(latest)).collect();

        let mut output = OutputFile::create(&self.output_path)?;
        // Every file is read twice: for its digest, and for its content.
        let total = files.iter().map(|file| file.size.saturating_mul(2)).sum();
        let progress = Progress::new("writing", total, self.no_progress);
        write(&spec, &sources, key.as_ref(), output.file(), &mut |bytes| {
            progress.advance(bytes)
        })
        .with_context(|| format!("{} was not written", self.output_path.display()))?;
        drop(progress);
        output.publish()?;
        Ok(())
    }
}

impl Software {
    /// Adds scripts, version and default clears.
    pub fn apply(&self, spec: &mut ArtifactSpec) -> Result<(), Failure> {
        spec.scripts = read_scripts(&self.scripts)?;
        let version = SoftwareVersion {
            filesystem: self.software_filesystem.clone(),
            name: self.software_name.clone(),
            version: self.software_version.clone(),
            no_default: self.no_default_software_version,
            no_default_clears: self.no_default_clears_provides,
        };
        let (name, payload) = (spec.name.clone(), spec.payload.clone());
        version.apply(
            &payload,
            &name,
            &mut spec.type_provides,
            &mut spec.clears_provides,
        );
        Ok(())
    }
}

fn unique(option: &str, pairs: &[Pair]) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for Pair(key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!(
                "{option} gives {key:?} twice; give it once"
            )));
        }
    }
    Ok(map)
}

/// `SOURCE_DATE_EPOCH`: no time in the artifact is later, so that builds can be repeated.
fn source_date_epoch() -> Result<Option<u64>, Failure> {
    match env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(None),
        Ok(text) => match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(Failure::usage(format!(
                "SOURCE_DATE_EPOCH is {text:?}; it is a number of seconds since 1970"
            ))),
        },
    }
}

/// Reads a JSON object for an update module.
pub fn read_meta_data(path: &Path) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let text =
        fs::read(path).with_context(|| format!("cannot read the meta-data {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("the meta-data {} is not a JSON object", path.display()))
}
