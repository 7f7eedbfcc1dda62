//! `ambidex artifact write module-image`

use std::path::PathBuf;

use ambidex_artifact::Payload;
use clap::Args;

use super::input::PayloadFile;
use super::write::{Common, Software, read_meta_data};
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  A file for the update module single-file:
    ambidex artifact write module-image -T single-file -f app.conf -f dest_dir -c rpi4 -n app-2
  With a document that the module understands:
    ambidex artifact write module-image -T docker -c rpi4 -n shop-7 -m shop.json")]
pub struct Arguments {
    /// Update module that installs it.
    #[arg(short = 'T', long = "type", value_name = "MODULE")]
    module: String,
    /// File of the payload; repeat for several, in this order.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// JSON object for the module.
    #[arg(short = 'm', long, value_name = "FILE")]
    meta_data: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    software: Software,
}

impl Arguments {
    pub fn run(self) -> Result<(), Failure> {
        if [ambidex_artifact::ROOTFS_IMAGE, ambidex_delta::ROOTFS_DELTA]
            .contains(&self.module.as_str())
        {
            return Err(Failure::usage(format!(
                "use `ambidex artifact write {}` for root file systems",
                self.module
            )));
        }
        let files = PayloadFile::find_all(&self.files)?;
        let mut spec = self.common.spec(Payload::Module(self.module.clone()))?;
        self.software.apply(&mut spec)?;
        spec.meta_data = self.meta_data.as_deref().map(read_meta_data).transpose()?;
        self.common.write(spec, &files)
    }
}
