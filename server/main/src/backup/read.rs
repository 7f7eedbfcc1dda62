//! Reading an archive, and believing nothing of it before its checksums.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::progress::Progress;
use super::write::Hashing;
use super::{ABOUT, About, CHECKSUMS, Checksums, FORMAT, Totals};

/// The two descriptions inside of an archive are small; more is not ours.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// Reads an archive to its end and checks every byte of it.
pub(crate) fn verify(path: &Path) -> anyhow::Result<(About, Totals)> {
    walk(path, &mut |_, content| {
        io::copy(content, &mut io::sink())?;
        Ok(())
    })
}

/// Hands every entry between the first and the last one to `sink`, by its path. Nothing of what the sink got may be
/// used before this has returned well.
pub(super) fn walk(
    path: &Path,
    sink: &mut dyn FnMut(&str, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<(About, Totals)> {
    entries(path, sink).with_context(|| format!("the backup {} cannot be read", path.display()))
}

fn entries(
    path: &Path,
    sink: &mut dyn FnMut(&str, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<(About, Totals)> {
    let file = File::open(path)?;
    let total = file.metadata()?.len();
    let mut progress = Progress::new();
    let mut passed = 0;
    let file = Watched {
        inner: BufReader::with_capacity(1 << 20, file),
        each: |count| {
            passed += count;
            progress.bytes("reading", passed, total);
        },
    };
    let mut tar = tar::Archive::new(zstd::Decoder::new(file)?);
    let mut entries = tar.entries()?;
    let not_ours = "it is not a backup of this program";
    let mut first = entries.next().context(not_ours)?.context(not_ours)?;
    if first.path()?.to_str() != Some(ABOUT) {
        bail!(not_ours);
    }
    let mut found = Checksums::new();
    let about: About = serde_json::from_slice(&text(ABOUT, &mut first, &mut found)?)?;
    if about.format > FORMAT {
        bail!(
            "it was written by version {} in a newer form; use that version or a later one",
            about.version
        );
    }
    let mut totals = Totals::default();
    let mut listed = None;
    for entry in entries {
        let mut entry = entry?;
        if listed.is_some() {
            bail!("something follows its end");
        }
        let name = entry.path()?.to_str().unwrap_or_default().to_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            bail!("{name:?} is not a file");
        }
        if name == CHECKSUMS {
            let mut ignored = Checksums::new();
            let text = text(CHECKSUMS, &mut entry, &mut ignored)?;
            listed = Some(serde_json::from_slice::<Checksums>(&text)?);
            continue;
        }
        let mut content = Hashing::new(&mut entry);
        sink(&name, &mut content)?;
        io::copy(&mut content, &mut io::sink())?;
        let checksum = content.checksum();
        totals.count(&name, checksum.bytes);
        if found.insert(name.clone(), checksum).is_some() {
            bail!("{name} comes twice");
        }
    }
    // What stands behind the last entry belongs to the archive, too: the compression's own checksum.
    io::copy(&mut tar.into_inner(), &mut io::sink())?;
    let Some(listed) = listed else {
        bail!("it is incomplete");
    };
    if let Some(damaged) = found
        .iter()
        .find(|(name, sum)| listed.get(*name) != Some(*sum))
    {
        bail!("{} is damaged", damaged.0);
    }
    if let Some(missing) = listed.keys().find(|name| !found.contains_key(*name)) {
        bail!("{missing} is missing");
    }
    Ok((about, totals))
}

fn text(name: &str, entry: &mut impl Read, found: &mut Checksums) -> anyhow::Result<Vec<u8>> {
    let mut content = Hashing::new(entry.take(TEXT_BYTES_MAX));
    let mut text = Vec::new();
    content.read_to_end(&mut text)?;
    found.insert(name.to_owned(), content.checksum());
    Ok(text)
}

struct Watched<R, F> {
    inner: R,
    each: F,
}

impl<R: Read, F: FnMut(u64)> Read for Watched<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.each)(count as u64);
        Ok(count)
    }
}
