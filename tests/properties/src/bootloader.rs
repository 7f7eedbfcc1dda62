//! The bootloader's variables: GRUB's environment blocks, U-Boot's environment, and the file that says where it is.
//!
//! - What is written is read back, and every variable that was not named stays as it was.
//! - A write that is refused changes nothing.
//! - After a write each copy that is alone tells the old or the new values, whole.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ambidex_install::boot::{
    BOOT_PART, BOOTCOUNT, Boot, BootConfig, BootKind, GRUB_BLOCK_BYTES, UPGRADE_AVAILABLE,
};

use crate::input::{Input, piece};
use crate::{allocation, scratch};

type Vars = BTreeMap<String, String>;

const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";
const ENV_BYTES: usize = 512;
/// The largest environment that is taken, twice, and what it means.
const MEMORY_MAX: usize = 32 << 20;

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => grub(input),
        1 => uboot(input),
        _ => location(input.rest()),
    }
}

/// A switch to the other slot, with a value of the input's.
fn changes(count: &str) -> [(&'static str, &str); 4] {
    [
        (BOOT_PART, "3"),
        ("mender_boot_part_hex", "3"),
        (UPGRADE_AVAILABLE, "1"),
        (BOOTCOUNT, count),
    ]
}

fn grub(mut input: Input<'_>) {
    let sealed = input.byte();
    let count = text(input.piece());
    let folder = scratch::folder("grub");
    let copies = ["env1", "env2"].map(|name| folder.join(name));
    for (number, copy) in copies.iter().enumerate() {
        let content = input.piece();
        let block = if sealed & (1 << number) == 0 {
            content.to_vec()
        } else {
            let mut block = [SIGNATURE, content].concat();
            block.resize(GRUB_BLOCK_BYTES, b'#');
            block
        };
        scratch::write(copy, &block);
    }
    let config = BootConfig {
        kind: BootKind::Grub,
        env_dir: folder,
        ..BootConfig::default()
    };
    let boot = Boot::open(&config).expect("a folder is enough");
    if let Some(now) = keeps(&boot, &changes(&count)) {
        for copy in &copies {
            let content = std::fs::read(copy).expect("both were written");
            std::fs::remove_file(copy).expect("both were written");
            assert_eq!(read(&boot).as_ref(), Some(&now), "the other copy alone");
            scratch::write(copy, &content);
        }
    }
}

fn uboot(mut input: Input<'_>) {
    let flags = input.byte();
    let (redundant, from_end) = (flags & 1 != 0, flags & 2 != 0);
    let offset = usize::from(input.byte());
    let count = text(input.piece());
    let folder = scratch::folder("uboot");
    let defaults = folder.join("defaults");
    if flags & 4 != 0 {
        scratch::write(&defaults, input.piece());
    }
    let copies = [folder.join("one"), folder.join("two")];
    let copies = &copies[..1 + usize::from(redundant)];
    let mut lines = String::new();
    for (number, copy) in copies.iter().enumerate() {
        let content = input.piece();
        let mut image = content.to_vec();
        if from_end {
            image.resize(ENV_BYTES, 0);
        }
        if flags & (8 << number) != 0 {
            image.resize(ENV_BYTES, 0);
            let header = if redundant { 5 } else { 4 };
            let sum = crc32fast::hash(&image[header..]);
            image[..4].copy_from_slice(&sum.to_ne_bytes());
        }
        let place = if from_end {
            format!("-{ENV_BYTES:#x}")
        } else {
            format!("{offset}")
        };
        scratch::write(copy, &[vec![0; offset], image].concat());
        lines += &format!("{} {place} {ENV_BYTES:x}\n", copy.display());
    }
    let fw_env_config = folder.join("fw_env.config");
    scratch::write(&fw_env_config, lines.as_bytes());
    let config = BootConfig {
        kind: BootKind::Uboot,
        fw_env_config,
        uboot_defaults: defaults,
        ..BootConfig::default()
    };
    let boot = Boot::open(&config).expect("the places exist");
    let before = read(&boot);
    let now = keeps(&boot, &changes(&count));
    if let (true, Some(before), Some(now)) = (redundant, before, now) {
        for copy in copies {
            let content = std::fs::read(copy).expect("both were there");
            scratch::write(copy, b"torn");
            // with defaults, a pair of which nothing is left tells these
            if let Some(left) = read(&boot).filter(|_| flags & 4 == 0) {
                assert!(
                    left == before || left == now,
                    "a copy that tells neither the old nor the new values"
                );
            }
            scratch::write(copy, &content);
        }
    }
}

/// Any text as the file that says where U-Boot's environment is. Never written to: it may name any file.
fn location(text: &[u8]) {
    let folder = scratch::folder("location");
    let fw_env_config = folder.join("fw_env.config");
    scratch::write(&fw_env_config, text);
    let config = BootConfig {
        kind: BootKind::Uboot,
        fw_env_config,
        uboot_defaults: folder.join("none"),
        ..BootConfig::default()
    };
    allocation::at_most(MEMORY_MAX, || {
        if let Err(error) = Boot::open(&config) {
            assert!(!error.to_string().is_empty());
        }
    });
}

/// Writes, and returns what is read afterwards if that was possible.
fn keeps(boot: &Boot, changes: &[(&str, &str)]) -> Option<Vars> {
    let before = allocation::at_most(MEMORY_MAX, || read(boot));
    let written = at_once(boot.write(changes));
    let after = read(boot);
    let Some(mut wanted) = before else {
        assert!(written.is_err(), "written over what cannot be read");
        assert_eq!(after, None);
        return None;
    };
    if written.is_err() {
        assert_eq!(after.as_ref(), Some(&wanted), "a refused write");
        return None;
    }
    for (key, value) in changes {
        wanted.insert((*key).to_owned(), (*value).to_owned());
    }
    let mut seen = after.expect("it was written just now");
    // to U-Boot an empty variable is none
    wanted.retain(|_, value| !value.is_empty());
    seen.retain(|_, value| !value.is_empty());
    assert_eq!(seen, wanted, "what was written");
    read(boot)
}

fn read(boot: &Boot) -> Option<Vars> {
    let env = at_once(boot.read()).ok()?;
    let _ = (
        env.boot_part(),
        env.upgrade_available(),
        env.bootcount(),
        env.check_canary(),
    );
    Some(env.vars)
}

/// Neither of these back ends waits for anything.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a file was waited for"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let grub = |sealed: u8, count: &[u8], one: &[u8], two: &[u8]| {
        [&[0, sealed][..], &piece(count), &piece(one), &piece(two)].concat()
    };
    let uboot = |flags: u8, offset: u8, parts: &[&[u8]]| {
        let parts: Vec<u8> = parts.iter().flat_map(|part| piece(part)).collect();
        [&[1, flags, offset][..], &parts].concat()
    };
    let location = |text: &str| [&[2], text.as_bytes()].concat();
    let vars = b"editing=0\nmender_boot_part=2\nupgrade_available=0\nbootcount=0\nodd=a\\\\b\n";
    let guarded = b"# WARNING: Do not edit\nediting=1\nmender_boot_part=2\n";
    let env = b"\0\0\0\0\x01mender_boot_part=2\0upgrade_available=0\0bootcmd=run x\0\0";
    let twice = b"\0\0\0\0mender_boot_part=2\0mender_boot_part=1\0\xff=\0\0";
    vec![
        grub(3, b"0", vars, vars),
        grub(3, b"7", guarded, vars),
        grub(1, b"", vars, b"junk"),
        uboot(1 | 8 | 16, 0, &[b"0", env, env]),
        uboot(
            1 | 8 | 4,
            64,
            &[b"", b"mender_boot_part=2\n#x\nbootcount=0\n", env, b""],
        ),
        uboot(2 | 8, 3, &[b"1", twice]),
        uboot(4, 0, &[b"1", b"mender_boot_part=2\0b=\n", b""]),
        location("# Device Offset Size\n/dev/null -0x20000 4000 200 1\n/dev/zero 512 0x4000\n"),
        location("/tmp 0x0 10\n"),
    ]
}
