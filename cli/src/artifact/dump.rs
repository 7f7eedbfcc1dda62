//! `ambidex artifact dump`

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ambidex_artifact::{ReadOptions, Reader, Verification};
use anyhow::Context as _;
use clap::Args;

use super::input::open_artifact;
use crate::exit::Failure;
use crate::output_file::OutputFile;
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
Directories are made when they are missing. A file appears when its checksum has been verified.

Example:
    ambidex artifact dump --files payload/ --scripts scripts/ release-2.mender")]
pub struct Arguments {
    /// Artifact to take apart.
    artifact: PathBuf,
    /// Directory for the payload files.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Directory for the state scripts.
    #[arg(long, value_name = "DIR")]
    scripts: Option<PathBuf>,
    /// Directory for the meta-data, as 0000.meta-data.
    #[arg(long, value_name = "DIR")]
    meta_data: Option<PathBuf>,
    /// Show no progress bar.
    #[arg(long)]
    no_progress: bool,
}

impl Arguments {
    pub fn run(self) -> Result<(), Failure> {
        if self.files.is_none() && self.scripts.is_none() && self.meta_data.is_none() {
            return Err(Failure::usage(
                "say what to take out: --files, --scripts or --meta-data",
            ));
        }
        for folder in [&self.files, &self.scripts, &self.meta_data]
            .into_iter()
            .flatten()
        {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the directory {}", folder.display()))?;
        }
        let (file, size) = open_artifact(&self.artifact)?;
        let progress = Progress::new("reading", size, self.no_progress);
        let damaged = || format!("cannot read {}", self.artifact.display());
        let mut reader = Reader::open(
            progress.reading(file),
            &ReadOptions::inspect(Verification::Ignore),
        )
        .with_context(damaged)?;
        if let Some(folder) = &self.scripts {
            for script in &reader.header().scripts {
                write_file(&folder.join(&script.name), &script.content)?;
            }
        }
        if let Some(folder) = &self.meta_data
            && !reader.header().meta_data_raw.is_empty()
        {
            write_file(
                &folder.join("0000.meta-data"),
                &reader.header().meta_data_raw,
            )?;
        }
        if let Some(folder) = &self.files {
            while let Some(mut file) = reader.next_file().with_context(damaged)? {
                let path = folder.join(file.name());
                let mut output = OutputFile::create(&path)?;
                while let Some(chunk) = file.chunk().with_context(damaged)? {
                    output
                        .file()
                        .write_all(chunk)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
                output.publish()?;
            }
        }
        reader.finish().with_context(damaged)?;
        Ok(())
    }
}

fn write_file(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut output = OutputFile::create(path)?;
    output
        .file()
        .write_all(content)
        .with_context(|| format!("cannot write {}", path.display()))?;
    output.publish()
}
