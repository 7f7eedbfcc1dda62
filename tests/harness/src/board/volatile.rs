//! A disk with a volatile write cache, which makes power cuts honest.
//!
//! Killing QEMU loses nothing that the guest has submitted: this machine's page cache keeps it. A real disk
//! may lose everything since the last flush, in any combination of sectors. This one, an NBD server for one
//! QEMU at a time, keeps writes in memory until the guest flushes; when the power is cut, a random part of
//! the unflushed sectors reaches the image file. It can also stop at the n-th write, because random moments
//! almost never hit a time with unflushed data.
//!
//! Ownership: one thread accepts and serves; it shares [`State`] with the owner under one mutex that is never
//! held while waiting for the network. The thread ends when the owner is dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const SECTOR_BYTES: usize = 512;
const DISCONNECT_LIMIT: Duration = Duration::from_secs(20);
/// QEMU asks for at most this much in one request.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACKNOWLEDGE: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
/// "has flags" and "takes flushes"; forced unit access is not offered, so QEMU flushes instead.
const EXPORT_FLAGS: u16 = 1 | 4;
const EIO: u32 = 5;

#[derive(Debug)]
struct State {
    file: File,
    bytes: u64,
    /// Sectors written since the last flush.
    unflushed: BTreeMap<u64, [u8; SECTOR_BYTES]>,
    writes: u64,
    flushes: u64,
    /// Stop answering when `writes` gets there.
    cut_at: Option<u64>,
    /// Stop answering when so many of these sectors are unflushed.
    cut_with: Option<(Range<u64>, usize)>,
    cut: bool,
    /// A QEMU is being served.
    connected: bool,
    random: StdRng,
}

/// The disk; QEMU connects to [`VolatileDisk::socket`].
#[derive(Debug)]
pub struct VolatileDisk {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    closed: Arc<AtomicBool>,
}

/// What a power cut did to the cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loss {
    pub unflushed_sectors: usize,
    pub lost_sectors: usize,
}

impl VolatileDisk {
    /// Serves the raw image at `image`; `seed` decides what power cuts lose.
    pub fn serve(image: &Path, socket: &Path, seed: u64) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(image)
            .with_context(|| format!("opening {}", image.display()))?;
        let bytes = file
            .metadata()
            .with_context(|| format!("asking for {}", image.display()))?
            .len();
        if !bytes.is_multiple_of(SECTOR_BYTES as u64) {
            bail!(
                "{} is no disk image: {bytes} bytes are no whole sectors",
                image.display()
            );
        }
        let listener =
            UnixListener::bind(socket).with_context(|| format!("opening {}", socket.display()))?;
        let state = Arc::new(Mutex::new(State {
            file,
            bytes,
            unflushed: BTreeMap::new(),
            writes: 0,
            flushes: 0,
            cut_at: None,
            cut_with: None,
            cut: false,
            connected: false,
            random: StdRng::seed_from_u64(seed),
        }));
        let closed = Arc::new(AtomicBool::new(false));
        let (shared, end) = (Arc::clone(&state), Arc::clone(&closed));
        std::thread::Builder::new()
            .name("volatile-disk".to_owned())
            .spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    if end.load(Ordering::SeqCst) {
                        break;
                    }
                    lock(&shared).connected = true;
                    // an error is the end of this QEMU: it was killed, as the tests do
                    let _ = Connection {
                        stream,
                        state: &shared,
                    }
                    .serve();
                    lock(&shared).connected = false;
                }
            })
            .context("starting the disk's thread")?;
        Ok(Self {
            socket: socket.to_owned(),
            state,
            closed,
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Write requests so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    /// How many MiB of `image` the disk, as the guest sees it, holds from `start` on.
    pub fn equal_mib(&self, start: u64, image: &Path) -> Result<usize> {
        const PIECE_BYTES: usize = 1024 * 1024;
        let file = File::open(image).with_context(|| format!("opening {}", image.display()))?;
        let bytes = file
            .metadata()
            .with_context(|| format!("asking for {}", image.display()))?
            .len();
        let (mut wanted, mut found) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        let mut equal = 0;
        for at in (0..bytes).step_by(PIECE_BYTES) {
            file.read_exact_at(&mut wanted, at)
                .with_context(|| format!("reading {}", image.display()))?;
            self.lock()
                .read(start + at, &mut found)
                .context("reading the disk")?;
            equal += usize::from(found == wanted);
        }
        Ok(equal)
    }

    /// Stops answering after `writes` more writes.
    pub fn cut_after(&self, writes: u64) {
        let mut state = self.lock();
        state.cut_at = Some(state.writes + writes.max(1));
    }

    /// Stops answering as soon as so many sectors between these bytes are unflushed. What else the system writes
    /// (it fills the inode tables of a new file system, for one) does not count.
    pub fn cut_with(&self, bytes: Range<u64>, unflushed_sectors: usize) {
        let sectors = bytes.start / SECTOR_BYTES as u64..bytes.end / SECTOR_BYTES as u64;
        self.lock().cut_with = Some((sectors, unflushed_sectors));
    }

    /// Takes back [`VolatileDisk::cut_after`] and [`VolatileDisk::cut_with`].
    pub fn disarm(&self) {
        let mut state = self.lock();
        state.cut_at = None;
        state.cut_with = None;
    }

    /// Whether the moment has come.
    pub fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// The power is gone (QEMU is dead): a random part of the unflushed sectors is lost.
    pub fn lose_power(&self) -> Result<Loss> {
        // requests that QEMU had sent before it died are in the socket still; the disk had got them
        let started = Instant::now();
        while self.lock().connected {
            if started.elapsed() > DISCONNECT_LIMIT {
                bail!("QEMU holds on to its disk: was it killed?");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut state = self.lock();
        let unflushed = std::mem::take(&mut state.unflushed);
        // from almost everything to almost nothing, so that both kinds of cut come up
        let share: f64 = state.random.gen_range(0.0..=1.0);
        let mut lost = 0;
        for (sector, content) in &unflushed {
            if state.random.gen_bool(share) {
                lost += 1;
            } else {
                state
                    .file
                    .write_all_at(content, sector * SECTOR_BYTES as u64)
                    .context("writing the image")?;
            }
        }
        state.cut = false;
        state.cut_at = None;
        state.cut_with = None;
        Ok(Loss {
            unflushed_sectors: unflushed.len(),
            lost_sectors: lost,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // wakes the thread out of `accept`
        let _ = UnixStream::connect(&self.socket);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn read(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(into, offset)?;
        let sector_bytes = SECTOR_BYTES as u64;
        let (first, end) = (
            offset / sector_bytes,
            (offset + into.len() as u64).div_ceil(sector_bytes),
        );
        for (sector, content) in self.unflushed.range(first..end) {
            let at = sector * sector_bytes;
            for (index, byte) in content.iter().enumerate() {
                let Some(place) = (at + index as u64).checked_sub(offset) else {
                    continue;
                };
                if let Some(slot) = into.get_mut(place as usize) {
                    *slot = *byte;
                }
            }
        }
        Ok(())
    }

    /// Offset and length are whole sectors.
    fn write(&mut self, offset: u64, data: &[u8]) {
        let first = offset / SECTOR_BYTES as u64;
        for (sector, content) in (first..).zip(data.as_chunks::<SECTOR_BYTES>().0) {
            self.unflushed.insert(sector, *content);
        }
        self.writes += 1;
        let enough = |(sectors, count): &(Range<u64>, usize)| {
            self.unflushed.range(sectors.clone()).count() >= *count
        };
        let is_enough = self.cut_with.as_ref().is_some_and(enough);
        if self.cut_at.is_some_and(|at| self.writes >= at) || is_enough {
            self.cut = true;
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.flushes += 1;
        let mut sectors = std::mem::take(&mut self.unflushed).into_iter().peekable();
        // neighbours go out in one write
        while let Some((first, content)) = sectors.next() {
            let mut run = content.to_vec();
            let mut next = first + 1;
            while let Some((_, content)) = sectors.next_if(|(sector, _)| *sector == next) {
                run.extend_from_slice(&content);
                next += 1;
            }
            self.file.write_all_at(&run, first * SECTOR_BYTES as u64)?;
        }
        Ok(())
    }
}

/// One QEMU. The protocol is NBD, fixed newstyle handshake, simple replies.
struct Connection<'a> {
    stream: UnixStream,
    state: &'a Mutex<State>,
}

impl Connection<'_> {
    fn serve(&mut self) -> std::io::Result<()> {
        if self.negotiate()? {
            while self.answer_request()? {}
        }
        Ok(())
    }

    /// `false` if the client went away.
    fn negotiate(&mut self) -> std::io::Result<bool> {
        self.stream.write_all(b"NBDMAGIC")?;
        self.stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
        // fixed newstyle, no padding
        self.stream.write_all(&3u16.to_be_bytes())?;
        self.number::<4>()?;
        loop {
            if self.number::<8>()? != OPTION_MAGIC {
                return Ok(false);
            }
            let (option, length) = (self.number::<4>()? as u32, self.number::<4>()? as usize);
            if length > 64 * 1024 {
                return Ok(false);
            }
            self.stream.read_exact(&mut vec![0; length])?;
            match option {
                OPTION_GO => {
                    let mut info = vec![0, 0];
                    info.extend(lock(self.state).bytes.to_be_bytes());
                    info.extend(EXPORT_FLAGS.to_be_bytes());
                    self.reply_option(option, REPLY_INFO, &info)?;
                    self.reply_option(option, REPLY_ACKNOWLEDGE, &[])?;
                    return Ok(true);
                }
                OPTION_ABORT => {
                    self.reply_option(option, REPLY_ACKNOWLEDGE, &[])?;
                    return Ok(false);
                }
                _ => self.reply_option(option, REPLY_UNSUPPORTED, &[])?,
            }
        }
    }

    fn reply_option(&mut self, option: u32, kind: u32, data: &[u8]) -> std::io::Result<()> {
        let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(option.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend((data.len() as u32).to_be_bytes());
        reply.extend(data);
        self.stream.write_all(&reply)
    }

    /// `false` at the end of the session.
    fn answer_request(&mut self) -> std::io::Result<bool> {
        let magic = self.number::<4>()? as u32;
        let (_flags, kind) = (self.number::<2>()?, self.number::<2>()?);
        let (cookie, offset) = (self.number::<8>()?, self.number::<8>()?);
        let length = self.number::<4>()? as usize;
        let whole = |bytes: u64| bytes.is_multiple_of(SECTOR_BYTES as u64);
        if magic != REQUEST_MAGIC || length > REQUEST_BYTES_MAX {
            return Ok(false);
        }
        let mut data = Vec::new();
        let error = match kind {
            // read
            0 => {
                data.resize(length, 0);
                lock(self.state).read(offset, &mut data).map_or(EIO, |()| 0)
            }
            // write
            1 => {
                let mut content = vec![0; length];
                self.stream.read_exact(&mut content)?;
                let mut state = lock(self.state);
                if whole(offset) && whole(length as u64) && offset + length as u64 <= state.bytes {
                    state.write(offset, &content);
                    if state.cut {
                        drop(state);
                        return self.stand_still();
                    }
                    0
                } else {
                    EIO
                }
            }
            // disconnect
            2 => return Ok(false),
            // flush
            3 => lock(self.state).flush().map_or(EIO, |()| 0),
            _ => EIO,
        };
        if error != 0 {
            data.clear();
        }
        let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(cookie.to_be_bytes());
        reply.extend(data);
        self.stream.write_all(&reply)?;
        Ok(true)
    }

    /// The moment of the cut: no answer any more. Reading on notices when QEMU is dead.
    fn stand_still(&mut self) -> std::io::Result<bool> {
        let mut ignored = vec![0; 64 * 1024];
        while self.stream.read(&mut ignored)? > 0 {}
        Ok(false)
    }

    /// A big-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> std::io::Result<u64> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(folder: &Path) -> VolatileDisk {
        let image = folder.join("image");
        std::fs::write(&image, vec![0; 8 * SECTOR_BYTES]).expect("an image");
        VolatileDisk::serve(&image, &folder.join("socket"), 1).expect("a disk")
    }

    #[test]
    fn what_is_not_flushed_is_read_back_but_may_be_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = disk(folder.path());
        let image = folder.path().join("image");
        let mut sectors = [0; 8];
        let mut survived = 0;
        for round in 1..=40u8 {
            let mut state = disk.lock();
            state.write(0, &[round; 4 * SECTOR_BYTES]);
            state.flush().expect("flushed");
            state.write(512, &[100 + round; 2 * SECTOR_BYTES]);
            let mut seen = vec![0; 4 * SECTOR_BYTES];
            state.read(0, &mut seen).expect("read");
            assert_eq!(
                (seen[0], seen[512], seen[1535], seen[1536]),
                (round, 100 + round, 100 + round, round)
            );
            drop(state);
            let loss = disk.lose_power().expect("a cut");
            assert_eq!(loss.unflushed_sectors, 2);
            let content = std::fs::read(&image).expect("the image");
            assert_eq!(
                (content[0], content[1536]),
                (round, round),
                "what was flushed stays"
            );
            let kept = [1, 2]
                .iter()
                .filter(|&&sector| content[sector * SECTOR_BYTES] == 100 + round)
                .count();
            assert_eq!(kept, 2 - loss.lost_sectors);
            sectors[kept] += 1;
            survived += kept;
        }
        assert!(
            survived > 10 && survived < 70,
            "some writes survive, some do not: {sectors:?}"
        );
        assert!(
            sectors[1] > 0,
            "a write can be torn between sectors: {sectors:?}"
        );
    }

    #[test]
    fn the_disk_stops_at_the_chosen_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = disk(folder.path());
        disk.cut_after(2);
        disk.lock().write(0, &[1; SECTOR_BYTES]);
        assert!(!disk.is_cut());
        disk.lock().write(0, &[2; SECTOR_BYTES]);
        assert!(disk.is_cut());
    }

    #[test]
    fn the_disk_stops_with_so_much_unflushed() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = disk(folder.path());
        let sector_bytes = SECTOR_BYTES as u64;
        disk.cut_with(0..2 * sector_bytes, 2);
        disk.lock().write(0, &[1; SECTOR_BYTES]);
        disk.lock().flush().expect("a flush");
        disk.lock().write(0, &[1; SECTOR_BYTES]);
        disk.lock().write(4 * sector_bytes, &[1; SECTOR_BYTES]);
        assert!(!disk.is_cut(), "one of them is unflushed");
        disk.lock().write(SECTOR_BYTES as u64, &[1; SECTOR_BYTES]);
        assert!(disk.is_cut());
    }
}
