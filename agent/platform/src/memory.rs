//! Memory of this process that waits for something to do.

use std::{ffi::c_void, fs, num::NonZeroUsize, path::Path, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

/// A process has some dozens of mappings.
const MAPS_BYTES_MAX: u64 = 1 << 20;

/// Takes the program's own code out of this process's memory; what runs next comes back from the page cache, or
/// from the file. Worth it before a long wait: the start, a login and a deployment leave code behind that the
/// loop between two polls never needs, and a device with little memory can use it. Best effort.
pub fn give_code_back() {
    let Ok(program) = fs::read_link("/proc/self/exe") else {
        return;
    };
    let Ok(text) = crate::fs::read_bounded("/proc/self/maps".as_ref(), MAPS_BYTES_MAX) else {
        return;
    };
    for (start, length) in code(&String::from_utf8_lossy(&text), &program) {
        let Some(address) =
            NonNull::new(std::ptr::with_exposed_provenance_mut::<c_void>(start.get()))
        else {
            continue;
        };
        // SAFETY: the range is one mapping of our own program that can be read and run but not written, so no
        // page of it differs from the file, and the kernel brings each back when it is touched.
        let _ = unsafe { madvise(address, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Start and length of the mappings of `program` that hold code.
fn code<'a>(maps: &'a str, program: &'a Path) -> impl Iterator<Item = (NonZeroUsize, usize)> + 'a {
    maps.lines().filter_map(move |line| {
        let mut fields = line.splitn(6, ' ');
        let (range, rights) = (fields.next()?, fields.next()?);
        let path = fields.nth(3)?.trim_start();
        if rights != "r-xp" || Path::new(path) != program {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        Some((NonZeroUsize::new(start)?, end.checked_sub(start)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_code_is_found() {
        let maps = "\
7f00-8f00 r--p 00000000 fe:00 7                          /usr/bin/ambidex-agent
1000-3000 r-xp 00001000 fe:00 7                          /usr/bin/ambidex-agent
3000-4000 rw-p 00003000 fe:00 7                          /usr/bin/ambidex-agent
5000-6000 r-xp 00000000 fe:00 9                          /usr/lib/libc.so.6
7000-8000 r-xp 00000000 00:00 0                          [vdso]
9000-a000 rw-p 00000000 00:00 0
";
        let found: Vec<_> = code(maps, "/usr/bin/ambidex-agent".as_ref())
            .map(|(start, length)| (start.get(), length))
            .collect();
        assert_eq!(found, [(0x1000, 0x2000)]);
    }

    #[test]
    fn the_program_goes_on() {
        give_code_back();
        assert_eq!("1".parse(), Ok(1));
    }
}
