//! Reads a file of LMDB, the database that the reference client keeps its state in.
//!
//! Reading alone, of the unnamed database without sorted duplicates: a handful of pages, once in a device's life,
//! which is not worth a database engine in C on every device. Nothing in the file is trusted: every place is
//! checked before it is read, every page is visited once.
//!
//! Format: data version 1, little-endian; the size of its words is that of the machine that wrote it.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
/// The value is on pages of its own.
const BIG: u16 = 0x01;
/// The value is another database.
const SUB: u16 = 0x02;
const PAGE_BYTES_MIN: usize = 512;
const PAGE_BYTES_MAX: usize = 64 * 1024;
const NODE_HEADER_BYTES: usize = 8;
/// Levels of a tree; the format itself stops at 32.
const DEPTH_MAX: usize = 32;

/// The values of these keys in the file's main database. They are lent, not copied: in a damaged file any number
/// of entries may lead to the same large value.
///
/// # Errors
/// Text that says what is wrong with the file.
pub(super) fn read<'a>(
    file: &'a [u8],
    keys: &[&'static str],
) -> Result<BTreeMap<&'static str, &'a [u8]>, &'static str> {
    let word = [8, 4]
        .into_iter()
        .find(|word| u32_at(file, header(*word)) == Some(MAGIC))
        .ok_or("it is no database of LMDB")?;
    let first = Meta::read(file, 0, word).ok_or("its first page is damaged")?;
    let page = first.page;
    if !page.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page) {
        return Err("its pages have an impossible size");
    }
    // Of the two copies the newer one counts; a torn one does not.
    let second = Meta::read(file, page, word);
    let meta = match second {
        Some(second) if second.transaction > first.transaction => second,
        _ => first,
    };
    let mut walk = Walk {
        file,
        word,
        page,
        left: file.len() / page,
        keys,
        found: BTreeMap::new(),
    };
    let empty = if word == 8 {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    if meta.root != empty {
        walk.page(meta.root, 0)?;
    }
    Ok(walk.found)
}

/// Bytes before the content of a page.
const fn header(word: usize) -> usize {
    word + 8
}

/// What one of the two first pages says.
struct Meta {
    page: usize,
    root: u64,
    transaction: u64,
}

impl Meta {
    fn read(file: &[u8], at: usize, word: usize) -> Option<Meta> {
        let start = at.checked_add(header(word))?;
        if u32_at(file, start)? != MAGIC || u32_at(file, start + 4)? != VERSION {
            return None;
        }
        let database = 8 + 5 * word;
        let databases = start + 8 + 2 * word;
        Some(Meta {
            // the first database's padding is where the size of pages is kept
            page: usize::try_from(u32_at(file, databases)?).ok()?,
            root: word_at(file, databases + database + 8 + 4 * word, word)?,
            transaction: word_at(file, databases + 2 * database + word, word)?,
        })
    }
}

struct Walk<'a, 'k> {
    file: &'a [u8],
    word: usize,
    page: usize,
    /// Pages that may still be visited: a damaged file may lead in circles.
    left: usize,
    keys: &'k [&'static str],
    found: BTreeMap<&'static str, &'a [u8]>,
}

impl<'a> Walk<'a, '_> {
    /// Where a page begins.
    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number).ok()?.checked_mul(self.page)
    }

    fn page(&mut self, number: u64, depth: usize) -> Result<(), &'static str> {
        const DAMAGED: &str = "one of its pages is damaged";
        self.left = self
            .left
            .checked_sub(1)
            .ok_or("its pages lead in circles")?;
        if depth > DEPTH_MAX {
            return Err("its pages lead in circles");
        }
        let start = self.place(number).ok_or(DAMAGED)?;
        let page = self
            .file
            .get(start..start.saturating_add(self.page))
            .ok_or("it ends before one of its pages")?;
        let flags = u16_at(page, self.word + 2).ok_or(DAMAGED)?;
        let lower = usize::from(u16_at(page, self.word + 4).ok_or(DAMAGED)?);
        let first = header(self.word);
        let nodes = lower.checked_sub(first).ok_or(DAMAGED)? / 2;
        for index in 0..nodes {
            let node = usize::from(u16_at(page, first + 2 * index).ok_or(DAMAGED)?);
            let low = u16_at(page, node).ok_or(DAMAGED)?;
            let high = u16_at(page, node + 2).ok_or(DAMAGED)?;
            let extra = u16_at(page, node + 4).ok_or(DAMAGED)?;
            let key_bytes = usize::from(u16_at(page, node + 6).ok_or(DAMAGED)?);
            let size = u64::from(low) | u64::from(high) << 16;
            match flags & (BRANCH | LEAF) {
                BRANCH => {
                    let wide = if self.word == 8 {
                        u64::from(extra) << 32
                    } else {
                        0
                    };
                    self.page(size | wide, depth + 1)?;
                }
                LEAF => {
                    let key_at = node + NODE_HEADER_BYTES;
                    let data_at = key_at + key_bytes;
                    let key = page.get(key_at..data_at).ok_or(DAMAGED)?;
                    let size = usize::try_from(size).map_err(|_| DAMAGED)?;
                    let value = match extra & (BIG | SUB) {
                        // where words are small, the size alone may be the largest number
                        0 => page
                            .get(data_at..data_at.saturating_add(size))
                            .ok_or(DAMAGED)?,
                        BIG => {
                            let number = word_at(page, data_at, self.word).ok_or(DAMAGED)?;
                            self.big(number, size).ok_or(DAMAGED)?
                        }
                        // a database within: not the reference's
                        _ => continue,
                    };
                    if let Some(known) = self.keys.iter().find(|known| known.as_bytes() == key) {
                        self.found.insert(*known, value);
                    }
                }
                _ => return Err(DAMAGED),
            }
        }
        Ok(())
    }

    /// A value on pages of its own.
    fn big(&self, number: u64, size: usize) -> Option<&'a [u8]> {
        let start = self.place(number)?;
        if u16_at(self.file, start.checked_add(self.word + 2)?)? & OVERFLOW == 0 {
            return None;
        }
        let data = start.checked_add(header(self.word))?;
        self.file.get(data..data.checked_add(size)?)
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn word_at(bytes: &[u8], at: usize, word: usize) -> Option<u64> {
    if word == 8 {
        bytes_at(bytes, at).map(u64::from_le_bytes)
    } else {
        u32_at(bytes, at).map(u64::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = 512;

    /// A file of one leaf, of 8-byte words, as LMDB lays it out; `big` values go to pages of their own.
    fn file(values: &[(&str, &[u8], bool)]) -> Vec<u8> {
        let mut file = vec![0; 3 * PAGE];
        for (at, transaction) in [(0, 1_u64), (PAGE, 2)] {
            put(&mut file, at + 16, &MAGIC.to_le_bytes());
            put(&mut file, at + 20, &VERSION.to_le_bytes());
            put(&mut file, at + 40, &512_u32.to_le_bytes());
            let root: u64 = if transaction == 2 { 2 } else { u64::MAX };
            put(&mut file, at + 128, &root.to_le_bytes());
            put(&mut file, at + 144, &transaction.to_le_bytes());
        }
        let leaf = 2 * PAGE;
        put(&mut file, leaf + 10, &LEAF.to_le_bytes());
        let lower = 16 + 2 * values.len() as u16;
        put(&mut file, leaf + 12, &lower.to_le_bytes());
        let mut end = PAGE;
        for (index, (key, value, big)) in values.iter().enumerate() {
            let number = (file.len() / PAGE) as u64;
            let stored = if *big {
                number.to_le_bytes().to_vec()
            } else {
                value.to_vec()
            };
            end -= 8 + key.len() + stored.len();
            put(
                &mut file,
                leaf + 16 + 2 * index,
                &(end as u16).to_le_bytes(),
            );
            put(&mut file, leaf + end, &(value.len() as u16).to_le_bytes());
            put(&mut file, leaf + end + 4, &u16::from(*big).to_le_bytes());
            put(&mut file, leaf + end + 6, &(key.len() as u16).to_le_bytes());
            put(&mut file, leaf + end + 8, key.as_bytes());
            put(&mut file, leaf + end + 8 + key.len(), &stored);
            if *big {
                let start = file.len();
                file.resize(start + PAGE * (16 + value.len()).div_ceil(PAGE), 0);
                put(&mut file, start + 10, &OVERFLOW.to_le_bytes());
                put(&mut file, start + 16, value);
            }
        }
        file
    }

    fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn values_are_found_on_the_leaf_and_on_pages_of_their_own() {
        let long = [7; 1300];
        let bytes = file(&[
            ("artifact-name", b"release-1", false),
            ("state", &long, true),
        ]);
        let found = read(&bytes, &["artifact-name", "state", "artifact-group"]).unwrap();
        assert_eq!(found["artifact-name"], b"release-1");
        assert_eq!(found["state"], long);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn many_entries_may_lead_to_one_large_value() {
        let keys: Vec<String> = (0..20).map(|n| format!("k{n:02}")).collect();
        let values: Vec<_> = keys
            .iter()
            .map(|key| (key.as_str(), &b""[..], true))
            .collect();
        let mut bytes = file(&values);
        let large = vec![7; 60_000];
        bytes.truncate(3 * PAGE);
        bytes.resize(4 * PAGE + large.len(), 7);
        put(&mut bytes, 3 * PAGE, &[0; 16]);
        put(&mut bytes, 3 * PAGE + 10, &OVERFLOW.to_le_bytes());
        for index in 0..keys.len() {
            let pointer = u16_at(&bytes, 2 * PAGE + 16 + 2 * index).unwrap();
            let node = 2 * PAGE + usize::from(pointer);
            put(&mut bytes, node, &60_000_u16.to_le_bytes());
            put(&mut bytes, node + 8 + 3, &3_u64.to_le_bytes());
        }
        let found = read(&bytes, &["k00", "k19"]).unwrap();
        assert_eq!(
            found["k00"].as_ptr(),
            found["k19"].as_ptr(),
            "lent, not copied"
        );
        assert_eq!(found["k19"], large);
    }

    #[test]
    fn a_torn_second_copy_leaves_the_first() {
        let mut bytes = file(&[("a", b"1", false)]);
        put(&mut bytes, PAGE + 16, &[0; 4]);
        assert!(read(&bytes, &["a"]).unwrap().is_empty());
    }

    #[test]
    fn circles_and_cuts_are_noticed() {
        let mut bytes = file(&[("a", b"1", false)]);
        // the leaf as a branch that leads to itself
        put(&mut bytes, 2 * PAGE + 10, &BRANCH.to_le_bytes());
        let node = 2 * PAGE + usize::from(u16_at(&bytes, 2 * PAGE + 16).unwrap());
        put(&mut bytes, node, &2_u16.to_le_bytes());
        assert_eq!(read(&bytes, &[]), Err("its pages lead in circles"));
        bytes.truncate(2 * PAGE);
        assert_eq!(read(&bytes, &[]), Err("it ends before one of its pages"));
        assert_eq!(
            read(b"something else", &[]),
            Err("it is no database of LMDB")
        );
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(changes in prop::collection::vec((0_usize..2048, any::<u8>()), 0..40)) {
            let mut bytes = file(&[("artifact-name", b"release-1", false), ("state", &[7; 600], true)]);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let _ = read(&bytes, &["artifact-name", "state"]);
        }
    }
}
