//! The board's disk seen from outside: what a slot holds, what the boot environment says.
//!
//! The layout is that of `qemu/settings.sh`; it is read from the partition table, not assumed. The image is
//! a raw file, so it can be looked at while the board runs: the file shows what the guest has submitted.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::choice::BootChoice;
use super::environment::{BootEnvironment, BootLoader, StoredCopy};
use super::kind::Kind;
use crate::child;

/// The partition with what the boot loader goes by.
pub(super) const FIRST: u8 = 1;
const SECTOR_BYTES: u64 = 512;
const MIB: usize = 1024 * 1024;

/// A raw disk image.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
    kind: Kind,
}

impl Disk {
    /// A pristine copy; blocks nobody writes to take no room.
    pub(super) async fn copy_of(image: &Path, path: &Path, kind: Kind) -> Result<Self> {
        super::copy_sparse(image, path).await?;
        Ok(Self::existing(path, kind))
    }

    /// The disk of a board of this kind.
    pub fn existing(path: &Path, kind: Kind) -> Self {
        Self {
            path: path.to_owned(),
            kind,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Start and length in bytes of a partition, counted from 1, from the GPT.
    pub fn partition(&self, number: u8) -> Result<(u64, u64)> {
        let file = self.open()?;
        let mut header = [0; 92];
        file.read_exact_at(&mut header, SECTOR_BYTES)
            .context("reading the partition table")?;
        if header.get(..8) != Some(b"EFI PART") {
            bail!("{} has no GPT", self.path.display());
        }
        let table = number_at(&header, 72, 8) * SECTOR_BYTES;
        let entry_bytes = number_at(&header, 84, 4);
        let mut entry = [0; 48];
        let at = table + u64::from(number.saturating_sub(1)) * entry_bytes;
        file.read_exact_at(&mut entry, at)
            .context("reading the partition table")?;
        let (first, last) = (number_at(&entry, 32, 8), number_at(&entry, 40, 8));
        if first == 0 || last < first {
            bail!("{} has no partition {number}", self.path.display());
        }
        Ok((first * SECTOR_BYTES, (last + 1 - first) * SECTOR_BYTES))
    }

    /// How many MiB of a partition hold the same bytes as `image` at the same place.
    pub fn equal_mib(&self, partition: u8, image: &Path) -> Result<usize> {
        let (start, length) = self.partition(partition)?;
        let (disk, image_file) = (self.open()?, open(image)?);
        let image_bytes = image_file
            .metadata()
            .with_context(|| format!("asking for {}", image.display()))?
            .len();
        let (mut ours, mut theirs) = (vec![0; MIB], vec![0; MIB]);
        let mut equal = 0;
        for offset in (0..image_bytes.min(length)).step_by(MIB) {
            disk.read_exact_at(&mut ours, start + offset)
                .context("reading the disk")?;
            image_file
                .read_exact_at(&mut theirs, offset)
                .context("reading the image")?;
            equal += usize::from(ours == theirs);
        }
        Ok(equal)
    }

    /// Whether a partition starts with exactly the bytes of `image`.
    pub fn holds(&self, partition: u8, image: &Path) -> Result<bool> {
        let mib = open(image)?
            .metadata()
            .with_context(|| format!("asking for {}", image.display()))?
            .len() as usize
            / MIB;
        Ok(self.equal_mib(partition, image)? == mib)
    }

    /// Number of MiB of a partition that hold anything but zeros.
    pub fn used_mib(&self, partition: u8) -> Result<usize> {
        let (start, length) = self.partition(partition)?;
        let disk = self.open()?;
        let mut block = vec![0; MIB];
        let mut used = 0;
        for offset in (0..length).step_by(MIB) {
            disk.read_exact_at(&mut block, start + offset)
                .context("reading the disk")?;
            used += usize::from(block.iter().any(|&byte| byte != 0));
        }
        Ok(used)
    }

    /// What the boot loader starts next (board off).
    pub async fn boot_choice(&self) -> Result<BootChoice> {
        match self.kind.boot_loader() {
            Some(_) => BootChoice::of_variables(&self.variables().await?),
            None => BootChoice::of_autoboot(&self.fat_file(FIRST, "autoboot.txt").await?),
        }
    }

    /// A file of a FAT partition (board off, or between two starts of it).
    pub async fn fat_file(&self, partition: u8, name: &str) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().context("making a temporary file")?;
        child::run(
            child::command("mcopy")
                .args(["-n", "-o", "-i"])
                .arg(self.mtools_name(partition)?)
                .arg(format!("::{name}"))
                .arg(file.path()),
        )
        .await
        .with_context(|| {
            format!("reading {name} of partition {partition} with mcopy (Debian package mtools)")
        })?;
        std::fs::read(file.path()).with_context(|| format!("reading the copy of {name}"))
    }

    /// Writes a file of a FAT partition (board off).
    pub async fn write_fat_file(&self, partition: u8, name: &str, content: &[u8]) -> Result<()> {
        let file = tempfile::NamedTempFile::new().context("making a temporary file")?;
        std::fs::write(file.path(), content).context("writing a temporary file")?;
        child::run(
            child::command("mcopy")
                .args(["-n", "-o", "-i"])
                .arg(self.mtools_name(partition)?)
                .arg(file.path())
                .arg(format!("::{name}")),
        )
        .await
        .with_context(|| {
            format!("writing {name} of partition {partition} with mcopy (Debian package mtools)")
        })?;
        Ok(())
    }

    /// A checksum of a partition's bytes, to tell whether anything was written.
    pub fn fingerprint(&self, partition: u8) -> Result<u32> {
        let (start, length) = self.partition(partition)?;
        let disk = self.open()?;
        let mut block = vec![0; MIB];
        let mut hasher = crc32fast::Hasher::new();
        for offset in (0..length).step_by(MIB) {
            disk.read_exact_at(&mut block, start + offset)
                .context("reading the disk")?;
            hasher.update(&block);
        }
        Ok(hasher.finalize())
    }

    /// Copy 1 or 2 of the boot environment (board off); an error when it is damaged.
    pub async fn environment(&self, copy: u8) -> Result<BootEnvironment> {
        Ok(self.environment_copy(copy).await?.environment)
    }

    /// What the boot loader will go by at its next start (board off).
    pub async fn variables(&self) -> Result<BootEnvironment> {
        let (first, second) = (
            self.environment_copy(1).await,
            self.environment_copy(2).await,
        );
        self.environment_format()?.choose(first, second)
    }

    /// Sets variables in both copies of the boot environment, of which one at least must be good (board off).
    pub async fn set_variables(&self, changes: &[(&str, &str)]) -> Result<()> {
        let mut environment = self.variables().await?;
        for (name, value) in changes {
            environment.set(name, value);
        }
        for counter in [1, 0] {
            let copy = StoredCopy {
                environment: environment.clone(),
                counter,
            };
            let block = self.environment_format()?.encode(&copy);
            self.write_environment(2 - counter, &block).await?;
        }
        Ok(())
    }

    async fn environment_copy(&self, copy: u8) -> Result<StoredCopy> {
        let block = self.environment_block(copy).await?;
        self.environment_format()?.decode(&block)
    }

    /// The bytes of copy 1 or 2 of the boot environment (board off).
    pub async fn environment_block(&self, copy: u8) -> Result<Vec<u8>> {
        let name = self.environment_format()?.path(copy);
        self.fat_file(FIRST, name).await
    }

    /// Overwrites copy 1 or 2 of the boot environment (board off), for instance with damage.
    pub async fn write_environment(&self, copy: u8, block: &[u8]) -> Result<()> {
        let name = self.environment_format()?.path(copy);
        self.write_fat_file(FIRST, name, block).await
    }

    /// Writes an image into a partition (board off).
    pub async fn write_partition(&self, number: u8, image: &Path) -> Result<()> {
        let (start, length) = self.partition(number)?;
        let bytes = std::fs::metadata(image)
            .with_context(|| format!("asking for {}", image.display()))?
            .len();
        if bytes > length {
            bail!(
                "{} has {bytes} bytes, partition {number} only {length}",
                image.display()
            );
        }
        child::run(
            child::command("dd")
                .arg(format!("if={}", image.display()))
                .arg(format!("of={}", self.path.display()))
                .args([
                    "bs=1M",
                    "conv=notrunc,sparse",
                    &format!("seek={}", start / MIB as u64),
                ]),
        )
        .await
        .context("writing the partition")?;
        Ok(())
    }

    /// mtools' way to name a file system inside an image.
    fn mtools_name(&self, partition: u8) -> Result<String> {
        let (start, _) = self.partition(partition)?;
        Ok(format!("{}@@{start}", self.path.display()))
    }

    fn environment_format(&self) -> Result<BootLoader> {
        let loader = self.kind.boot_loader();
        loader.context("this kind of board has no boot environment: its choice is autoboot.txt")
    }

    fn open(&self) -> Result<File> {
        open(&self.path)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// A little-endian number of `length` bytes.
fn number_at(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes
        .iter()
        .skip(at)
        .take(length)
        .rev()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(number_at(&[0xff, 0x34, 0x12, 0xff], 1, 2), 0x1234);
    }
}
