//! The two slots: which device each is, and the number the bootloader knows it by.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ambidex_platform::block;
use ambidex_platform::fs::{Context, FsError};
use ambidex_platform::mounts::DeviceNumber;

use crate::boot::Side;
use crate::context::RootfsConfig;
use crate::handler::HandlerError;

/// What makes two paths the same storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Device(DeviceNumber),
    File { device: u64, inode: u64 },
}

impl Identity {
    pub(crate) fn of(path: &Path) -> Result<Self, FsError> {
        if let Some(number) = block::device_number(path)? {
            return Ok(Self::Device(number));
        }
        let metadata = std::fs::metadata(path).context("inspect", path)?;
        Ok(Self::File {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// One of the two root file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotDevice {
    /// As a person would name it: the resolved device path.
    pub path: PathBuf,
    /// What `mender_boot_part` says when this slot boots.
    pub number: u32,
    pub identity: Identity,
}

/// Slot A and slot B.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots {
    pub a: SlotDevice,
    pub b: SlotDevice,
}

impl Slots {
    pub(crate) fn resolve(config: &RootfsConfig) -> Result<Self, HandlerError> {
        let (Some(a), Some(b)) = (&config.part_a, &config.part_b) else {
            return Err(HandlerError::Configuration(
                "the root file system slots are not configured; set rootfs_part_a and rootfs_part_b (RootfsPartA and RootfsPartB)".to_owned(),
            ));
        };
        let slots = Self {
            a: resolve(a)?,
            b: resolve(b)?,
        };
        if slots.a.identity == slots.b.identity {
            return Err(HandlerError::Configuration(format!(
                "rootfs_part_a {} and rootfs_part_b {} are the same device",
                a.display(),
                b.display()
            )));
        }
        if slots.a.number == slots.b.number {
            return Err(HandlerError::Configuration(format!(
                "the boot loader cannot tell {} from {}: both have the number {}",
                slots.a.path.display(),
                slots.b.path.display(),
                slots.a.number
            )));
        }
        Ok(slots)
    }

    /// The slot with this number.
    pub(crate) fn numbered(&self, number: u32) -> Option<&SlotDevice> {
        [&self.a, &self.b]
            .into_iter()
            .find(|slot| slot.number == number)
    }

    pub(crate) fn side(&self, slot: &SlotDevice) -> Side {
        if *slot == self.a { Side::A } else { Side::B }
    }

    pub(crate) fn at(&self, side: Side) -> &SlotDevice {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// The partition numbers, by which boot loaders with variables know the slots.
    pub(crate) fn numbers(&self) -> [u32; 2] {
        [self.a.number, self.b.number]
    }

    pub(crate) fn other(&self, slot: &SlotDevice) -> &SlotDevice {
        if *slot == self.a { &self.b } else { &self.a }
    }

    /// The slot that is this storage.
    pub(crate) fn identified(&self, identity: Identity) -> Option<&SlotDevice> {
        [&self.a, &self.b]
            .into_iter()
            .find(|slot| slot.identity == identity)
    }
}

fn resolve(configured: &Path) -> Result<SlotDevice, HandlerError> {
    let path = device_path(configured)?;
    let number = partition_number(&path).ok_or_else(|| {
        HandlerError::Configuration(format!(
            "{} does not end in a partition number, by which the boot loader knows a slot; name the partition itself",
            path.display()
        ))
    })?;
    let identity = Identity::of(&path)?;
    Ok(SlotDevice {
        path,
        number,
        identity,
    })
}

/// The device that a configured name stands for. Links below `/dev/disk` and `/dev/root` are
/// followed, because their names say nothing about the partition; others are kept as they are.
pub(crate) fn device_path(configured: &Path) -> Result<PathBuf, HandlerError> {
    let text = configured.to_string_lossy();
    let is_ubi = |name: &str| {
        name.strip_prefix("ubi")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let name = configured.file_name().unwrap_or_default().to_string_lossy();
    if is_ubi(&text) || (text.starts_with("/dev/") && is_ubi(&name)) {
        return Err(HandlerError::Configuration(format!(
            "{text} is a UBI volume, which the built-in rootfs-image handler does not write; install an update module rootfs-image that does and set rootfs_module"
        )));
    }
    let tagged = [
        ("PARTUUID=", "by-partuuid"),
        ("PARTLABEL=", "by-partlabel"),
        ("UUID=", "by-uuid"),
        ("LABEL=", "by-label"),
    ]
    .into_iter()
    .find_map(|(tag, dir)| {
        let value = text.strip_prefix(tag)?.trim_matches('"');
        // udev writes identifiers in lower case, labels as they are
        let value = if tag.ends_with("UUID=") {
            value.to_lowercase()
        } else {
            value.to_owned()
        };
        Some(Path::new("/dev/disk").join(dir).join(value))
    });
    let path = tagged.unwrap_or_else(|| configured.to_owned());
    if path.starts_with("/dev/disk") || path == Path::new("/dev/root") {
        return Ok(std::fs::canonicalize(&path).context("resolve", &path)?);
    }
    Ok(path)
}

/// The decimal digits at the end of the device's name.
pub(crate) fn partition_number(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    name[name.len() - digits..].parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_trailing_digits() {
        for (path, number) in [
            ("/dev/mmcblk0p2", Some(2)),
            ("/dev/sda12", Some(12)),
            ("/dev/loop20", Some(20)),
            ("/dev/nvme0n1p3", Some(3)),
            ("/dev/sda", None),
            ("/dev/sda99999999999", None),
            ("/", None),
        ] {
            assert_eq!(partition_number(Path::new(path)), number, "{path}");
        }
    }

    fn config(a: &Path, b: &Path) -> RootfsConfig {
        RootfsConfig {
            part_a: Some(a.into()),
            part_b: Some(b.into()),
            ..RootfsConfig::default()
        }
    }

    fn refused(config: &RootfsConfig) -> String {
        Slots::resolve(config).unwrap_err().to_string()
    }

    #[test]
    fn a_pair_must_be_two_devices_with_two_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["slot2", "slot3", "other2", "plain"] {
            std::fs::write(path(name), b"").unwrap();
        }
        std::os::unix::fs::symlink(path("slot2"), path("link4")).unwrap();
        let slots = Slots::resolve(&config(&path("slot2"), &path("slot3"))).unwrap();
        assert_eq!((slots.a.number, slots.b.number), (2, 3));
        assert_eq!(slots.other(&slots.a), &slots.b);
        assert_eq!(slots.numbered(3), Some(&slots.b));
        assert_eq!(slots.numbered(4), None);

        assert!(refused(&RootfsConfig::default()).contains("rootfs_part_a"));
        assert!(refused(&config(&path("slot2"), &path("link4"))).contains("same device"));
        assert!(
            refused(&config(&path("slot2"), &path("other2"))).contains("both have the number 2")
        );
        assert!(refused(&config(&path("slot2"), &path("plain"))).contains("partition number"));
        assert!(refused(&config(&path("slot2"), &path("absent5"))).contains("absent5"));
    }

    #[test]
    fn names_are_resolved_or_refused_with_their_reason() {
        let error = |text: &str| device_path(Path::new(text)).unwrap_err().to_string();
        assert!(error("PARTUUID=ABCD-02").contains("/dev/disk/by-partuuid/abcd-02"));
        assert!(error("PARTLABEL=\"RootA\"").contains("by-partlabel/RootA"));
        assert!(error("ubi0_0").contains("UBI"));
        assert!(error("ubi0:rootfsa").contains("UBI"));
        assert!(error("/dev/ubi0_1").contains("UBI"));
        assert_eq!(
            device_path(Path::new("/dev/sda2")).unwrap(),
            Path::new("/dev/sda2")
        );
    }
}
