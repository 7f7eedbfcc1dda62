//! `ambidex artifact write rootfs-delta`

use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use ambidex_artifact::{Payload, Sha256Digest, rootfs_checksum_key};
use ambidex_delta::{Found, ROOTFS_DELTA, diff};
use anyhow::Context as _;
use clap::Args;

use super::input::PayloadFile;
use super::write::{Common, Software};
use crate::exit::Failure;
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
The artifact installs on devices that run exactly the image of --from, known by its digest: the artifact with that
image must provide rootfs-image.checksum, as `ambidex artifact write rootfs-image` lets it do, and the root file
system must be mounted read-only and have no journal. Give the artifact with the whole image the same name: the server
offers the difference to the devices that can take it and the whole image to the others.

Examples:
    ambidex artifact write rootfs-delta --from release-1.ext4 -f release-2.ext4 -c rpi4 -n release-2 -o delta.mender")]
pub struct Arguments {
    /// Image that the devices run.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Image that they are to run.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    software: Software,
}

impl Arguments {
    pub fn run(self) -> Result<(), Failure> {
        let new = PayloadFile::find(&self.file)?;
        let mut spec = self.common.spec(Payload::RootfsImage)?;
        self.software.apply(&mut spec)?;
        spec.payload = Payload::Module(ROOTFS_DELTA.to_owned());

        let draft = self.common.scratch()?;
        let found = self.difference(&new, draft.file())?;
        let key = rootfs_checksum_key(false);
        let digest = |sha256| Sha256Digest::from(sha256).to_string();
        spec.type_depends
            .insert(key.to_owned(), vec![digest(found.header.old.sha256)]);
        spec.type_provides
            .insert(key.to_owned(), digest(found.header.new.sha256));
        if !self.common.no_progress() {
            eprintln!(
                "{} of {} bytes are not in {}",
                found.new_bytes,
                found.header.new.bytes,
                self.from.display()
            );
        }
        let files = [new.replaced(draft.path(), ".delta", found.bytes)];
        self.common.write(spec, &files)
    }

    fn difference(&self, new: &PayloadFile, output: &File) -> anyhow::Result<Found> {
        let open = |path: &PathBuf| {
            File::open(path).with_context(|| format!("cannot read the image {}", path.display()))
        };
        let (mut old_file, mut new_file) = (open(&self.from)?, open(&self.file)?);
        // a disk has a length only for who goes to its end
        let old_bytes = old_file
            .seek(SeekFrom::End(0))
            .with_context(|| format!("cannot measure the image {}", self.from.display()))?;
        let total = old_bytes.saturating_add(new.size.saturating_mul(2));
        let progress = Progress::new("comparing", total, self.common.no_progress());
        let mut writer = BufWriter::new(output);
        let found = diff(
            &old_file,
            old_bytes,
            &mut new_file,
            &mut writer,
            &mut |bytes| progress.advance(bytes),
        )
        .with_context(|| {
            format!(
                "no difference between {} and {} was made",
                self.from.display(),
                self.file.display()
            )
        })?;
        writer.flush().context("cannot write the difference")?;
        Ok(found)
    }
}
