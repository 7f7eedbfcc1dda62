//! `ambidex artifact write rootfs-image`

use std::path::PathBuf;

use ambidex_artifact::Payload;
use clap::Args;

use super::input::PayloadFile;
use super::write::{Common, Software};
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  An image for two types of boards:
    ambidex artifact write rootfs-image -f rootfs.ext4 -c rpi4 -c rpi5 -n release-2 -o release-2.mender
  Compressed with zstd and signed:
    ambidex artifact write rootfs-image -f rootfs.ext4 -c rpi4 -n release-2 --compression zstd -k private.pem
  Only for devices that run release-1, with state scripts:
    ambidex artifact write rootfs-image -f rootfs.ext4 -c rpi4 -n release-2 -N release-1 -s scripts/")]
pub struct Arguments {
    /// Image of the root file system.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    software: Software,
    /// Do not provide the digest of the image.
    #[arg(long)]
    no_checksum_provide: bool,
    /// Provide the digest as rootfs_image_checksum, for clients before version 3.
    #[arg(long, conflicts_with = "no_checksum_provide")]
    legacy_rootfs_image_checksum: bool,
}

impl Arguments {
    pub fn run(self) -> Result<(), Failure> {
        let files = [PayloadFile::find(&self.file)?];
        let mut spec = self.common.spec(Payload::RootfsImage)?;
        self.software.apply(&mut spec)?;
        if !self.no_checksum_provide {
            spec = spec.with_rootfs_checksum(self.legacy_rootfs_image_checksum);
        }
        self.common.write(spec, &files)
    }
}
