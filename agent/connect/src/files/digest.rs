//! SHA-256 of content: the proof that both ends have the same, of a part or of all of it.

use std::fs::File;
use std::io::{self, Read as _};

use sha2::{Digest as _, Sha256};

/// Read at once.
const BLOCK_BYTES: usize = 128 << 10;
const HEX_DIGITS: usize = 64;

/// What has been hashed so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Digest(Sha256);

impl Digest {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// As it is written in messages.
    pub(super) fn hex(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }

    /// Reads the next `bytes` of a file; `None` when it has fewer, or when `wanted` says no any more.
    pub(super) fn of(
        mut file: &File,
        bytes: u64,
        wanted: impl Fn() -> bool,
    ) -> io::Result<Option<Digest>> {
        let mut digest = Digest::default();
        let mut block = vec![0; BLOCK_BYTES];
        let mut left = bytes;
        while left > 0 {
            if !wanted() {
                return Ok(None);
            }
            let room = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            match file.read(&mut block[..room]) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    digest.update(&block[..count]);
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(digest))
    }
}

/// Whether this is one, as messages have it.
pub(super) fn is_hex(text: &str) -> bool {
    text.len() == HEX_DIGITS
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_file_is_hashed_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "abcdef").unwrap();
        let file = || File::open(dir.path().join("f")).unwrap();
        let of = |bytes| {
            Digest::of(&file(), bytes, || true)
                .unwrap()
                .map(|d| d.hex())
        };
        // the test vector of the standard
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(3).as_deref(), Some(abc));
        assert!(is_hex(abc) && !is_hex("ba78") && !is_hex(&abc.to_uppercase()));
        assert_eq!(of(0), Some(Digest::default().hex()));
        assert_eq!(of(7), None);
        assert!(Digest::of(&file(), 3, || false).unwrap().is_none());
    }
}
