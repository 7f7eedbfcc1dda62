//! Which slot the running system came from. Mount table, device mapper and kernel command line
//! are asked in turn, so that overlay and encrypted roots are recognised as well
//! (agent-behaviour section 7.2, weakness W16).

use std::path::{Path, PathBuf};

use ambidex_platform::fs::read_bounded;
use ambidex_platform::mounts::{self, DeviceNumber, Mount};
use ambidex_platform::{block, fs::FsError};

use super::slots::{Identity, SlotDevice, Slots, device_path};
use crate::context::RootfsConfig;
use crate::handler::HandlerError;

/// Device mapper stacks are a few layers high.
const STACK_DEPTH_MAX: u32 = 8;

/// What `/` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Running {
    /// One of the two slots.
    Slot(SlotDevice),
    /// Something else, described for a person.
    Foreign(String),
    /// Both slots are plain files: there is nothing to compare `/` with (emulation, tests).
    Emulated,
}

impl Running {
    pub(crate) fn find(config: &RootfsConfig, slots: &Slots) -> Result<Self, HandlerError> {
        if let Some(configured) = &config.running_root {
            let path = device_path(configured)?;
            let found = slots.identified(Identity::of(&path)?);
            return Ok(found.cloned().map_or_else(
                || Self::Foreign(format!("{} (running_root)", path.display())),
                Self::Slot,
            ));
        }
        let plain = |slot: &SlotDevice| matches!(slot.identity, Identity::File { .. });
        if plain(&slots.a) && plain(&slots.b) {
            return Ok(Self::Emulated);
        }
        let number = block::holding_device(Path::new("/"))?;
        let table = mounts::mounts()?;
        let root = mounts::mounted_at(&table, Path::new("/"));
        let command_line = read_bounded(Path::new("/proc/cmdline"), 64 * 1024)?;
        let found = by_number(slots, number)
            .or_else(|| by_stack(slots, number, STACK_DEPTH_MAX))
            .or_else(|| root.and_then(|root| by_mount(slots, root, &table)))
            .or_else(|| by_command_line(slots, &String::from_utf8_lossy(&command_line)));
        Ok(found
            .cloned()
            .map_or_else(|| Self::Foreign(describe(number, root)), Self::Slot))
    }

    /// How a person would name it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Slot(slot) => slot.path.display().to_string(),
            Self::Foreign(text) => text.clone(),
            Self::Emulated => "emulated".to_owned(),
        }
    }
}

fn describe(number: DeviceNumber, root: Option<&Mount>) -> String {
    match root {
        Some(root) => format!("{} ({}, device {number})", root.source, root.fs_type),
        None => format!("device {number}"),
    }
}

fn by_number(slots: &Slots, number: DeviceNumber) -> Option<&SlotDevice> {
    slots.identified(Identity::Device(number))
}

/// Follows device mapper (encryption, verity, logical volumes) down to what it is made of.
fn by_stack(slots: &Slots, number: DeviceNumber, depth: u32) -> Option<&SlotDevice> {
    if depth == 0 || number.major == 0 {
        return None;
    }
    let below = std::fs::read_dir(format!("/sys/dev/block/{number}/slaves")).ok()?;
    for entry in below.flatten() {
        let text = read_bounded(&entry.path().join("dev"), 64).ok()?;
        let lower = parse_number(&String::from_utf8_lossy(&text))?;
        let found = by_number(slots, lower).or_else(|| by_stack(slots, lower, depth - 1));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn parse_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

/// A file system that has no device number of its own: the mounted source, the lower directories
/// of an overlay, or the only slot that is mounted at all.
fn by_mount<'a>(slots: &'a Slots, root: &Mount, table: &[Mount]) -> Option<&'a SlotDevice> {
    let source = Path::new(&root.source);
    if source.is_absolute()
        && let Ok(Some(number)) = block::device_number(source)
        && let Some(found) =
            by_number(slots, number).or_else(|| by_stack(slots, number, STACK_DEPTH_MAX))
    {
        return Some(found);
    }
    if root.fs_type != "overlay" {
        return None;
    }
    let lower = root
        .option("lowerdir")
        .into_iter()
        .flat_map(|dirs| dirs.split(':'));
    for dir in lower.map(PathBuf::from) {
        let visible: Result<DeviceNumber, FsError> = block::holding_device(&dir);
        if let Ok(number) = visible
            && let Some(found) =
                by_number(slots, number).or_else(|| by_stack(slots, number, STACK_DEPTH_MAX))
        {
            return Some(found);
        }
    }
    let mounted = |slot: &SlotDevice| {
        table.iter().any(|mount| {
            slot.identity == Identity::Device(mount.device)
                || by_stack(slots, mount.device, STACK_DEPTH_MAX) == Some(slot)
        })
    };
    match (mounted(&slots.a), mounted(&slots.b)) {
        (true, false) => Some(&slots.a),
        (false, true) => Some(&slots.b),
        _ => None,
    }
}

/// `root=` as the bootloader passed it. A root that is mounted from elsewhere (an initramfs that
/// decided otherwise) was found by its device before this is asked.
fn by_command_line<'a>(slots: &'a Slots, command_line: &str) -> Option<&'a SlotDevice> {
    let value = command_line
        .split_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix("root="))?;
    let path = device_path(Path::new(value)).ok()?;
    slots.identified(Identity::of(&path).ok()?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    /// Slots with made-up device numbers.
    fn slots() -> Slots {
        let slot = |path: &str, number, minor| SlotDevice {
            path: path.into(),
            number,
            identity: Identity::Device(DeviceNumber { major: 179, minor }),
        };
        Slots {
            a: slot("/dev/mmcblk0p2", 2, 2),
            b: slot("/dev/mmcblk0p3", 3, 3),
        }
    }

    fn found(mountinfo: &str) -> Option<u32> {
        let table = mounts::parse(mountinfo);
        let slots = slots();
        let root = mounts::mounted_at(&table, Path::new("/")).unwrap();
        by_mount(&slots, root, &table).map(|slot| slot.number)
    }

    #[test]
    fn below_an_overlay_the_only_mounted_slot_is_the_running_one() {
        let overlay =
            "36 1 0:31 / / rw - overlay overlay rw,lowerdir=/no/such/lower,upperdir=/up\n";
        assert_eq!(found(overlay), None);
        let lower = "37 36 179:3 / /media/root-ro ro - ext4 /dev/mmcblk0p3 ro\n";
        assert_eq!(found(&format!("{overlay}{lower}")), Some(3));
        let both = "38 36 179:2 / /mnt rw - ext4 /dev/mmcblk0p2 rw\n";
        assert_eq!(found(&format!("{overlay}{lower}{both}")), None);
        let other = "36 1 0:31 / / rw - tmpfs tmpfs rw\n";
        assert_eq!(found(&format!("{other}{lower}")), None);
    }

    #[test]
    fn a_configured_root_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("slot2"), b"").unwrap();
        std::fs::write(path("slot3"), b"").unwrap();
        std::fs::write(path("elsewhere"), b"").unwrap();
        let mut config = RootfsConfig {
            part_a: Some(path("slot2")),
            part_b: Some(path("slot3")),
            ..RootfsConfig::default()
        };
        let slots = Slots::resolve(&config).unwrap();
        assert_eq!(Running::find(&config, &slots).unwrap(), Running::Emulated);
        for (target, number) in [("slot3", Some(3)), ("slot2", Some(2)), ("elsewhere", None)] {
            let link = path(&format!("root-{target}"));
            std::os::unix::fs::symlink(path(target), &link).unwrap();
            config.running_root = Some(link);
            let seen = match Running::find(&config, &slots).unwrap() {
                Running::Slot(slot) => Some(slot.number),
                Running::Foreign(text) => {
                    assert!(text.contains("root-elsewhere"), "{text}");
                    None
                }
                Running::Emulated => panic!("a configured root is not emulated"),
            };
            assert_eq!(seen, number, "{target}");
        }
    }

    #[test]
    fn the_command_line_names_a_slot_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("slot2"), dir.path().join("slot3"));
        std::fs::write(&a, b"").unwrap();
        std::fs::write(&b, b"").unwrap();
        let config = RootfsConfig {
            part_a: Some(a),
            part_b: Some(b.clone()),
            ..RootfsConfig::default()
        };
        let slots = Slots::resolve(&config).unwrap();
        let line = format!("quiet root=/dev/nonsense root={} ro", b.display());
        assert_eq!(by_command_line(&slots, &line).unwrap().number, 3);
        assert!(by_command_line(&slots, "quiet ro").is_none());
        assert!(by_command_line(&slots, "root=/dev/nfs").is_none());
    }

    #[test]
    fn numbers_are_parsed() {
        assert_eq!(
            parse_number("253:1\n"),
            Some(DeviceNumber {
                major: 253,
                minor: 1
            })
        );
        assert_eq!(parse_number("x"), None);
    }
}
