//! The format of GRUB's environment block: a signature line, `key=value` lines, `#` up to 1024
//! bytes. Pure: bytes in, variables out, and back.

/// Size of a block; GRUB writes it in place and cannot make it grow.
pub const GRUB_BLOCK_BYTES: usize = 1024;

const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";

/// All variables must end before this byte: one sector is written whole or not at all, so a torn
/// write can never mix old and new values.
const SECTOR_BYTES: usize = 512;

/// Variables in the order of the block; `None` when the block is damaged. A name is what stands before the
/// first `=`, as it is: GRUB knows escapes in values only.
pub(super) fn decode(block: &[u8]) -> Option<Vec<(String, String)>> {
    if block.len() != GRUB_BLOCK_BYTES {
        return None;
    }
    let mut rest = block.strip_prefix(SIGNATURE)?;
    let mut vars: Vec<(String, String)> = Vec::new();
    while !rest.iter().all(|byte| *byte == b'#') {
        let end = rest.iter().position(|byte| matches!(byte, b'=' | b'\n'))?;
        let (name, after) = (&rest[..end], &rest[end + 1..]);
        if name.starts_with(b"#") {
            // grub-editenv puts a warning to readers below the signature
            let line = rest.iter().position(|byte| *byte == b'\n')?;
            if rest[..line].contains(&0) {
                return None;
            }
            rest = &rest[line + 1..];
            continue;
        }
        if name.is_empty() || rest[end] == b'\n' {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        if vars.iter().any(|(known, _)| known == name) {
            return None;
        }
        let (value, after) = split_value(after)?;
        vars.push((name.to_owned(), String::from_utf8(value).ok()?));
        rest = after;
    }
    Some(vars)
}

/// One unescaped value and what follows its line; `None` when no line end follows.
fn split_value(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'\n' => return Some((value, &bytes[at + 1..])),
            b'\\' => {
                value.push(*bytes.get(at + 1)?);
                at += 2;
            }
            byte => {
                value.push(*byte);
                at += 1;
            }
        }
    }
}

/// The block for these variables, in this order.
///
/// # Errors
/// The number of bytes they would take, when that is more than the first sector holds.
pub(super) fn encode(vars: &[(String, String)]) -> Result<[u8; GRUB_BLOCK_BYTES], usize> {
    let mut text = SIGNATURE.to_vec();
    for (key, value) in vars {
        text.extend_from_slice(key.as_bytes());
        text.push(b'=');
        for byte in value.bytes() {
            if byte == b'\\' || byte == b'\n' {
                text.push(b'\\');
            }
            text.push(byte);
        }
        text.push(b'\n');
    }
    if text.len() > SECTOR_BYTES {
        return Err(text.len());
    }
    let mut block = [b'#'; GRUB_BLOCK_BYTES];
    block[..text.len()].copy_from_slice(&text);
    Ok(block)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn an_empty_block_has_no_variables() {
        let block = encode(&[]).unwrap();
        assert_eq!(decode(&block).unwrap(), []);
        assert!(block.starts_with(b"# GRUB Environment Block\n####"));
    }

    #[test]
    fn damage_is_noticed() {
        let good = encode(&owned(&[("editing", "0"), ("mender_boot_part", "2")])).unwrap();
        assert!(decode(&good).is_some());
        assert!(decode(&good[..1023]).is_none(), "short");
        assert!(decode(&[0; 1024]).is_none(), "zeros");
        let mut torn = good;
        torn[1000] = 0;
        assert!(decode(&torn).is_none(), "padding");
        let mut torn = good;
        torn[3] = b'X';
        assert!(decode(&torn).is_none(), "signature");
        let twice = encode(&owned(&[("a", "1"), ("a", "2")])).unwrap();
        assert!(decode(&twice).is_none(), "repeated variable");
    }

    #[test]
    fn names_are_taken_and_written_as_they_are() {
        let mut block = SIGNATURE.to_vec();
        block.extend_from_slice(b"# a comment\\\nwindows\\path=c:\\\\x\n\\#odd=1\n");
        block.resize(GRUB_BLOCK_BYTES, b'#');
        let vars = decode(&block).unwrap();
        assert_eq!(vars, owned(&[("windows\\path", "c:\\x"), ("\\#odd", "1")]));
        assert_eq!(decode(&encode(&vars).unwrap()).unwrap(), vars);
    }

    #[test]
    fn the_first_sector_is_the_limit() {
        let room = SECTOR_BYTES - SIGNATURE.len() - "a=\n".len();
        assert!(encode(&owned(&[("a", &"x".repeat(room))])).is_ok());
        assert_eq!(
            encode(&owned(&[("a", &"x".repeat(room + 1))])),
            Err(SECTOR_BYTES + 1)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            vars in prop::collection::btree_map("[a-z_]{1,12}", "[ -~\n]{0,20}", 0..8)
        ) {
            let vars: Vec<_> = vars.into_iter().collect();
            let block = encode(&vars).unwrap();
            prop_assert_eq!(decode(&block).unwrap(), vars);
        }

        #[test]
        fn decoding_anything_never_panics(tail in prop::collection::vec(any::<u8>(), 0..999)) {
            let mut block = SIGNATURE.to_vec();
            block.extend(tail);
            block.resize(GRUB_BLOCK_BYTES, b'#');
            let _ = decode(&block);
        }
    }
}
