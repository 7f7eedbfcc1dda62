//! `ambidex artifact sign`

use std::fs;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use ambidex_artifact::{ReadOptions, Reader, Verification, sign};
use anyhow::Context as _;
use clap::Args;

use super::input::{open_artifact, read_signing_key};
use crate::exit::Failure;
use crate::output_file::OutputFile;
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
The artifact is checked first: a damaged one is not signed. Every byte but the signature stays as it is.

Examples:
    ambidex artifact sign -k private.pem release-2.mender
    ambidex artifact sign -k private.pem -o signed.mender release-2.mender
  Replace a signature:
    ambidex artifact sign -k new.pem --force release-2.mender")]
pub struct Arguments {
    /// Artifact to sign.
    artifact: PathBuf,
    /// Private key: PEM, RSA or ECDSA P-256.
    #[arg(short = 'k', long, value_name = "FILE")]
    key: PathBuf,
    /// File to write; the artifact itself is replaced unless given.
    #[arg(short = 'o', long, value_name = "FILE")]
    output_path: Option<PathBuf>,
    /// Replace a signature that is there.
    #[arg(short = 'f', long)]
    force: bool,
    /// Show no progress bar.
    #[arg(long)]
    no_progress: bool,
}

impl Arguments {
    pub fn run(self) -> Result<(), Failure> {
        let key = read_signing_key(&self.key)?;
        let (mut file, size) = open_artifact(&self.artifact)?;
        let not_signed = || format!("{} was not signed", self.artifact.display());
        let progress = Progress::new("signing", size.saturating_mul(2), self.no_progress);
        let checked = Reader::open(
            progress.reading(&file),
            &ReadOptions::inspect(Verification::Ignore),
        )
        .with_context(not_signed)?;
        if checked.header().signed && !self.force {
            return Err(anyhow::anyhow!(
                "{} is signed already; replace the signature with --force",
                self.artifact.display()
            )
            .into());
        }
        checked.finish().with_context(not_signed)?;

        file.seek(SeekFrom::Start(0)).with_context(not_signed)?;
        let mut output = OutputFile::create(self.output_path.as_ref().unwrap_or(&self.artifact))?;
        let mut buffered = BufWriter::with_capacity(256 * 1024, output.file());
        sign(progress.reading(&file), &mut buffered, &key, self.force).with_context(not_signed)?;
        buffered.flush().with_context(not_signed)?;
        drop(buffered);
        drop(progress);
        if self.output_path.is_none() {
            output.like(&fs::metadata(&self.artifact).with_context(not_signed)?)?;
        }
        output.publish()?;
        Ok(())
    }
}
