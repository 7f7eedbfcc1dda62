//! `ambidex artifact read`

use std::path::PathBuf;

use ambidex_artifact::{ReadOptions, Reader, Verification};
use anyhow::Context as _;
use clap::Args;

use super::describe::Description;
use super::input::{open_artifact, read_verify_key};
use crate::OutputForm;
use crate::exit::Failure;
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
The whole artifact is read, and a damaged one is an error. A signature that does not fit the key is
shown and is no error; use `ambidex artifact validate -k` to check it.

Examples:
    ambidex artifact read release-2.mender
    ambidex artifact read -k public.pem release-2.mender
    ambidex artifact read --output json release-2.mender")]
pub struct Arguments {
    /// Artifact to show.
    artifact: PathBuf,
    /// Public key to check the signature with: PEM, RSA or ECDSA P-256.
    #[arg(short = 'k', long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Show no progress bar.
    #[arg(long)]
    no_progress: bool,
}

impl Arguments {
    pub fn run(self, form: OutputForm) -> Result<(), Failure> {
        let verify = match &self.key {
            Some(key) => Verification::Report(vec![read_verify_key(key)?]),
            None => Verification::Ignore,
        };
        let (file, size) = open_artifact(&self.artifact)?;
        let progress = Progress::new("reading", size, self.no_progress);
        let read = || {
            let reader = Reader::open(progress.reading(file), &ReadOptions::inspect(verify))?;
            let header = reader.header().clone();
            reader.finish().map(|summary| (header, summary))
        };
        let (header, summary) =
            read().with_context(|| format!("cannot read {}", self.artifact.display()))?;
        drop(progress);
        let description = Description::new(&header, &summary);
        match form {
            OutputForm::Table => print!("{description}"),
            OutputForm::Json => {
                println!("{}", serde_json::to_string_pretty(&description.to_json())?)
            }
        }
        Ok(())
    }
}
