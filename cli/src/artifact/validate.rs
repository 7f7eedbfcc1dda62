//! `ambidex artifact validate`

use std::path::PathBuf;

use ambidex_artifact::{ReadOptions, Reader, Verification};
use anyhow::Context as _;
use clap::Args;

use super::input::{open_artifact, read_verify_key};
use crate::exit::Failure;
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
A signed artifact needs a key, and with a key an unsigned artifact is an error.

Examples:
    ambidex artifact validate release-2.mender
    ambidex artifact validate -k public.pem release-2.mender")]
pub struct Arguments {
    /// Artifact to check.
    artifact: PathBuf,
    /// Public key that must have signed it; repeat for several of which one will do.
    #[arg(short = 'k', long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Show no progress bar.
    #[arg(long)]
    no_progress: bool,
}

impl Arguments {
    pub fn run(self) -> Result<(), Failure> {
        let keys = self
            .key
            .iter()
            .map(|key| read_verify_key(key))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let without_key = keys.is_empty();
        let verify = if without_key {
            Verification::Ignore
        } else {
            Verification::Require(keys)
        };
        let (file, size) = open_artifact(&self.artifact)?;
        let progress = Progress::new("checking", size, self.no_progress);
        let reader = Reader::open(progress.reading(file), &ReadOptions::inspect(verify))
            .with_context(|| format!("{} is not valid", self.artifact.display()))?;
        let signed = reader.header().signed;
        let summary = reader
            .finish()
            .with_context(|| format!("{} is not valid", self.artifact.display()))?;
        drop(progress);
        if signed && without_key {
            return Err(anyhow::anyhow!(
                "{} is intact and signed, and there is no key to check the signature; give the public key with -k",
                self.artifact.display()
            )
            .into());
        }
        let word = if without_key {
            "valid, not signed"
        } else {
            "valid, signature verified"
        };
        println!(
            "{}: {word}, {} bytes",
            self.artifact.display(),
            summary.bytes_read
        );
        Ok(())
    }
}
