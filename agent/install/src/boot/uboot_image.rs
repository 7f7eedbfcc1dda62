//! The bytes of a U-Boot environment: a CRC, in the redundant form a flags byte, then
//! NUL-terminated `key=value` entries. Pure.

/// One valid copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Counts the writes of a redundant pair, wrapping; 0 in the single form.
    pub flags: u8,
    /// `key=value` as stored; kept as bytes because U-Boot does not promise UTF-8.
    pub entries: Vec<Vec<u8>>,
}

fn header_bytes(redundant: bool) -> usize {
    if redundant { 5 } else { 4 }
}

/// The content of a copy, `None` when its checksum does not fit.
pub(super) fn decode(bytes: &[u8], redundant: bool) -> Option<Image> {
    let (header, data) = bytes.split_at_checked(header_bytes(redundant))?;
    let stored = u32::from_ne_bytes(header.get(..4)?.try_into().ok()?);
    if crc32fast::hash(data) != stored {
        return None;
    }
    let entries = data
        .split(|byte| *byte == 0)
        .take_while(|entry| !entry.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    Some(Image {
        flags: header.get(4).copied().unwrap_or(0),
        entries,
    })
}

/// The bytes of a copy of exactly `size` bytes.
///
/// # Errors
/// The number of bytes needed when the entries do not fit.
pub(super) fn encode(image: &Image, size: usize, redundant: bool) -> Result<Vec<u8>, usize> {
    let header = header_bytes(redundant);
    let needed = header
        + image
            .entries
            .iter()
            .map(|entry| entry.len() + 1)
            .sum::<usize>()
        + 1;
    if needed > size {
        return Err(needed);
    }
    let mut bytes = vec![0; header];
    for entry in &image.entries {
        bytes.extend_from_slice(entry);
        bytes.push(0);
    }
    bytes.resize(size, 0);
    let crc = crc32fast::hash(&bytes[header..]);
    bytes[..4].copy_from_slice(&crc.to_ne_bytes());
    if redundant {
        bytes[4] = image.flags;
    }
    Ok(bytes)
}

/// Which of two valid copies is the newer: U-Boot's rule, with its wrap from 255 to 0.
pub(super) fn second_is_newer(first: u8, second: u8) -> bool {
    match (first, second) {
        (255, 0) => true,
        (0, 255) => false,
        _ => second > first,
    }
}

impl Image {
    /// Name and value of every entry that is text; others are carried along unseen.
    pub(super) fn vars(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.entries.iter().filter_map(|entry| {
            let (key, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        })
    }

    /// Replaces a variable in its place, appends a new one, removes it when the value is empty
    /// (an empty variable does not exist for U-Boot). Of a variable that is there more than once the last
    /// one counts, so that none of the others may stay.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let prefix = format!("{key}=").into_bytes();
        let place = self.entries.iter().position(|old| old.starts_with(&prefix));
        self.entries.retain(|old| !old.starts_with(&prefix));
        if !value.is_empty() {
            let entry = [prefix.as_slice(), value.as_bytes()].concat();
            self.entries
                .insert(place.unwrap_or(self.entries.len()), entry);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn variables_are_replaced_in_place_appended_and_removed() {
        let mut image = Image {
            flags: 0,
            entries: vec![b"a=1".to_vec(), b"ab=2".to_vec(), b"\xff=x".to_vec()],
        };
        image.set("a", "9");
        image.set("c", "3");
        image.set("ab", "");
        image.set("gone", "");
        assert_eq!(image.entries, [&b"a=9"[..], b"\xff=x", b"c=3"]);
        assert_eq!(image.vars().count(), 2);
    }

    #[test]
    fn a_variable_that_is_there_twice_is_replaced_everywhere() {
        let twice = || Image {
            flags: 0,
            entries: vec![b"a=1".to_vec(), b"b=2".to_vec(), b"a=3".to_vec()],
        };
        let mut image = twice();
        assert!(image.vars().any(|var| var == ("a".into(), "3".into())));
        image.set("a", "9");
        assert_eq!(image.entries, [b"a=9", b"b=2"]);
        let mut image = twice();
        image.set("a", "");
        assert_eq!(image.entries, [b"b=2"]);
    }

    #[test]
    fn the_size_is_a_limit() {
        let image = Image {
            flags: 0,
            entries: vec![vec![b'x'; 10]],
        };
        assert_eq!(encode(&image, 16, false).unwrap().len(), 16);
        assert_eq!(encode(&image, 15, false), Err(16));
        assert_eq!(encode(&image, 16, true), Err(17));
    }

    #[test]
    fn the_newer_copy_follows_the_counter_over_its_wrap() {
        assert!(second_is_newer(1, 2) && !second_is_newer(2, 1) && !second_is_newer(3, 3));
        assert!(second_is_newer(255, 0) && !second_is_newer(0, 255) && second_is_newer(254, 255));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            vars in prop::collection::btree_map("[a-z_]{1,12}", "[ -~]{1,20}", 0..8),
            flags: u8, redundant: bool,
        ) {
            let mut image = Image { flags: if redundant { flags } else { 0 }, entries: vec![] };
            for (key, value) in &vars {
                image.set(key, value);
            }
            let bytes = encode(&image, 1024, redundant).unwrap();
            prop_assert_eq!(decode(&bytes, redundant), Some(image));
        }

        #[test]
        fn any_changed_byte_is_noticed(at in 0usize..256, change in 1u8..) {
            let image = Image { flags: 1, entries: vec![b"a=1".to_vec()] };
            let mut bytes = encode(&image, 256, false).unwrap();
            bytes[at] ^= change;
            prop_assert_eq!(decode(&bytes, false), None);
        }

        #[test]
        fn decoding_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), redundant: bool) {
            let _ = decode(&bytes, redundant);
        }
    }
}
