//! The database that the reference client leaves on a device.
//!
//! - Whatever the file holds, the device has a name afterwards, and it is the same after the next start.
//! - Every name and value that is taken over stood in the file; reading costs memory in proportion to it.

use ambidex_agent::deployment::{Store, bootstrap, store::UNKNOWN_NAME};

use crate::{allocation, scratch};

/// The file, what is taken from it, and the state it is stored in.
const MEMORY_BASE: usize = 1 << 20;
const MEMORY_PER_BYTE: usize = 256;

pub fn check(bytes: &[u8]) {
    let folder = scratch::folder("predecessor");
    scratch::write(&folder.join("mender-store"), bytes);
    let none = folder.join("none");
    let named = || {
        let mut store = Store::open(&folder).expect("an empty folder can be used");
        bootstrap::ensure_name(&mut store, &folder, &none).expect("it can be saved");
        store
    };
    let store = allocation::at_most(MEMORY_BASE + MEMORY_PER_BYTE * bytes.len(), named);
    let provides = store.provides().clone();
    let name = store.artifact_name().expect("every device has a name");
    if name != UNKNOWN_NAME {
        for text in [Some(name), store.artifact_group()].into_iter().flatten() {
            assert!(
                bytes
                    .windows(text.len().max(1))
                    .any(|part| part == text.as_bytes()),
                "{text:?} does not stand in the file"
            );
        }
    }
    assert_eq!(named().provides(), &provides, "after the next start");
}

/// A database of one leaf as LMDB lays it out, on a machine with `word` bytes in a word. Values of more than 200 bytes
/// are on pages of their own.
fn database(word: usize, values: &[(&str, &[u8])]) -> Vec<u8> {
    const PAGE: usize = 512;
    let header = word + 8;
    let mut file = vec![0; 3 * PAGE];
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    };
    for (at, transaction) in [(0, 1_u64), (PAGE, 2)] {
        put(&mut file, at + header, &0xBEEF_C0DE_u32.to_le_bytes());
        put(&mut file, at + header + 4, &1_u32.to_le_bytes());
        let databases = at + header + 8 + 2 * word;
        let database = 8 + 5 * word;
        put(&mut file, databases, &512_u32.to_le_bytes());
        let root = if transaction == 2 { 2 } else { u64::MAX };
        put(
            &mut file,
            databases + database + 8 + 4 * word,
            &root.to_le_bytes()[..word],
        );
        put(
            &mut file,
            databases + 2 * database + word,
            &transaction.to_le_bytes()[..word],
        );
    }
    let leaf = 2 * PAGE;
    put(&mut file, leaf + word + 2, &[2, 0]);
    let lower = u16::try_from(header + 2 * values.len()).expect("few values");
    put(&mut file, leaf + word + 4, &lower.to_le_bytes());
    let mut end = PAGE;
    let short = |length: usize| u16::try_from(length).expect("short values").to_le_bytes();
    for (index, (key, value)) in values.iter().enumerate() {
        let big = value.len() > 200;
        let number = (file.len() / PAGE) as u64;
        let stored = if big {
            number.to_le_bytes()[..word].to_vec()
        } else {
            value.to_vec()
        };
        end -= 8 + key.len() + stored.len();
        put(&mut file, leaf + header + 2 * index, &short(end));
        put(&mut file, leaf + end, &short(value.len()));
        put(&mut file, leaf + end + 4, &[u8::from(big), 0]);
        put(&mut file, leaf + end + 6, &short(key.len()));
        put(&mut file, leaf + end + 8, key.as_bytes());
        put(&mut file, leaf + end + 8 + key.len(), &stored);
        if big {
            let start = file.len();
            file.resize(start + (header + value.len()).next_multiple_of(PAGE), 0);
            put(&mut file, start + word + 2, &[4, 0]);
            put(&mut file, start + header, value);
        }
    }
    file
}

pub fn seeds() -> Vec<Vec<u8>> {
    let provides = br#"{"rootfs-image.version":"release-1","rootfs-image.checksum":"00"}"#;
    let long = format!(r#"{{"k":"{}"}}"#, "v".repeat(700));
    [8, 4]
        .into_iter()
        .flat_map(|word| {
            [
                database(
                    word,
                    &[
                        ("artifact-group", b"group"),
                        ("artifact-name", b"release-1"),
                        ("artifact-provides", provides),
                    ],
                ),
                database(
                    word,
                    &[
                        ("artifact-name", b"release-2"),
                        ("artifact-provides", long.as_bytes()),
                        ("state", b"update-store"),
                    ],
                ),
                database(word, &[]),
            ]
        })
        .collect()
}
