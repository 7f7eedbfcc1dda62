//! What `read` says of an artifact, as text and as JSON.

use std::fmt;

use ambidex_artifact::{Header, SignatureState, Summary};
use jiff::Timestamp;
use serde_json::{Value, json};

pub struct Description<'a> {
    header: &'a Header,
    summary: &'a Summary,
}

impl<'a> Description<'a> {
    pub fn new(header: &'a Header, summary: &'a Summary) -> Self {
        Self { header, summary }
    }

    pub fn to_json(&self) -> Value {
        let header = self.header;
        let files: Vec<Value> = self
            .summary
            .files
            .iter()
            .map(|file| {
                json!({
                    "name": file.name,
                    "size": file.size,
                    "sha256": file.sha256,
                    "modified": time(file.mtime),
                })
            })
            .collect();
        json!({
            "name": header.name,
            "format": "mender",
            "version": header.version,
            "size": self.summary.bytes_read,
            "signed": header.signed,
            "signature": match &header.signature {
                SignatureState::Unsigned => "none",
                SignatureState::Unchecked => "unchecked",
                SignatureState::Verified { .. } => "verified",
                SignatureState::Failed { .. } => "failed",
            },
            "compression": self.summary.compression.to_string(),
            "compatible_types": header.device_types,
            "group": header.group,
            "depends_on_artifacts": header.depends_names,
            "depends_on_groups": header.depends_groups,
            "state_scripts": header.scripts.iter().map(|script| &script.name).collect::<Vec<_>>(),
            "type": header.payload.type_name(),
            "provides": header.type_provides,
            "depends": header.type_depends,
            "clears_provides": header.clears_provides,
            "meta_data": header.meta_data,
            "augmented": header.augment.is_some(),
            "files": files,
        })
    }
}

fn time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(
            || format!("{seconds} s after 1970"),
            |time| time.to_string(),
        )
}

fn signature(state: &SignatureState) -> String {
    match state {
        SignatureState::Unsigned => "no signature".into(),
        SignatureState::Unchecked => {
            "signed but no key for verification provided; give the public key with -k".into()
        }
        SignatureState::Verified { .. } => "signed and verified correctly".into(),
        SignatureState::Failed { reason } => {
            format!("signed; verification using provided key failed: {reason}")
        }
    }
}

/// Text from an artifact, so that it cannot steer the terminal.
struct Safe<'a>(&'a str);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                fmt::Write::write_char(f, character)?;
            }
        }
        Ok(())
    }
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| Safe(value).to_string()).collect();
    format!("[{}]", values.join(", "))
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header;
        writeln!(f, "Mender Artifact:")?;
        writeln!(f, "  Name: {}", Safe(&header.name))?;
        writeln!(f, "  Format: mender")?;
        writeln!(f, "  Version: {}", header.version)?;
        writeln!(f, "  Signature: {}", signature(&header.signature))?;
        writeln!(f, "  Compression: {}", self.summary.compression)?;
        writeln!(f, "  Size: {}", self.summary.bytes_read)?;
        writeln!(f, "  Compatible types: {}", list(&header.device_types))?;
        if header.version == 3 {
            writeln!(
                f,
                "  Provides group: {}",
                Safe(header.group.as_deref().unwrap_or_default())
            )?;
            writeln!(
                f,
                "  Depends on one of artifact(s): {}",
                list(&header.depends_names)
            )?;
            writeln!(
                f,
                "  Depends on one of group(s): {}",
                list(&header.depends_groups)
            )?;
        }
        if header.scripts.is_empty() {
            writeln!(f, "  State scripts: []")?;
        } else {
            writeln!(f, "  State scripts:")?;
            for script in &header.scripts {
                writeln!(f, "    - {}", script.name)?;
            }
        }
        writeln!(f, "\nUpdates:")?;
        match header.payload.type_name() {
            Some(name) => writeln!(f, "  - Type: {}", Safe(name))?,
            None => writeln!(f, "  - Empty type")?,
        }
        if header.version == 3 {
            self.fmt_type_info(f)?;
        }
        self.fmt_files(f)
    }
}

impl Description<'_> {
    fn fmt_type_info(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header;
        if header.type_provides.is_empty() {
            writeln!(f, "    Provides: {{}}")?;
        } else {
            writeln!(f, "    Provides:")?;
            for (key, value) in &header.type_provides {
                writeln!(f, "      {}: {}", Safe(key), Safe(value))?;
            }
        }
        if header.type_depends.is_empty() {
            writeln!(f, "    Depends: {{}}")?;
        } else {
            writeln!(f, "    Depends:")?;
            for (key, values) in &header.type_depends {
                match values.as_slice() {
                    [one] => writeln!(f, "      {}: {}", Safe(key), Safe(one))?,
                    many => writeln!(f, "      {}: {}", Safe(key), list(many))?,
                }
            }
        }
        match &header.clears_provides {
            Some(globs) => writeln!(f, "    Clears Provides: {}", list(globs))?,
            None => writeln!(f, "    Clears Provides: everything (no list)")?,
        }
        match &header.meta_data {
            None => writeln!(f, "    Metadata: {{}}"),
            Some(meta_data) => {
                writeln!(f, "    Metadata:")?;
                // JSON escapes control characters itself.
                let text = serde_json::to_string_pretty(meta_data).map_err(|_| fmt::Error)?;
                text.lines()
                    .try_for_each(|line| writeln!(f, "      {line}"))
            }
        }
    }

    fn fmt_files(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.summary.files.is_empty() {
            return writeln!(f, "    Files: []");
        }
        writeln!(f, "    Files:")?;
        for file in &self.summary.files {
            writeln!(f, "      - checksum: {}", file.sha256)?;
            writeln!(f, "        modified: {}", time(file.mtime))?;
            writeln!(f, "        name: {}", file.name)?;
            writeln!(f, "        size: {}", file.size)?;
        }
        Ok(())
    }
}
