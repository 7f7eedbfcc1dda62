//! The pair of slots, found by the names of the partitions where no configuration has it.
//!
//! Only what cannot be meant otherwise counts: exactly one pair of names, each of them once, on one disk, and the
//! running root is one of the two.

use std::path::{Path, PathBuf};

use ambidex_platform::fs::read_bounded;

use super::{running::Running, slots::Slots};
use crate::context::RootfsConfig;

/// Where the kernel tells of partitions and their names.
const BLOCK_CLASS: &str = "/sys/class/block";
/// Bytes of one description.
const UEVENT_BYTES_MAX: u64 = 4096;

/// Names of pairs, in lower case and without what separates words.
const PAIRS: [(&str, &str); 7] = [
    ("rootfsa", "rootfsb"),
    ("roota", "rootb"),
    ("systema", "systemb"),
    ("rootfs1", "rootfs2"),
    ("root1", "root2"),
    ("slota", "slotb"),
    ("primary", "secondary"),
];

/// Where the slots are known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Detection {
    /// The configuration names at least one.
    Configured,
    /// Found by the partitions' names.
    Found { a: PathBuf, b: PathBuf },
    /// Neither; the text says why.
    Missing(String),
}

/// A partition with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Partition {
    label: String,
    device: PathBuf,
    disk: PathBuf,
}

/// Looks for the slots.
pub(super) fn detect(config: &RootfsConfig) -> Detection {
    if config.part_a.is_some() || config.part_b.is_some() {
        return Detection::Configured;
    }
    let class = config.block_class.as_deref();
    let partitions = partitions(class.unwrap_or(Path::new(BLOCK_CLASS)));
    match pair(&partitions).and_then(|(a, b)| check_root(config, a, b)) {
        Ok((a, b)) => Detection::Found { a, b },
        Err(reason) => Detection::Missing(reason),
    }
}

/// The configuration, with the slots that were found where it has none.
pub(super) fn completed(config: &RootfsConfig) -> RootfsConfig {
    let mut config = config.clone();
    match detect(&config) {
        Detection::Configured => {}
        Detection::Found { a, b } => {
            log::info!(
                "the slots are {} and {}, by the partitions' names",
                a.display(),
                b.display()
            );
            config.part_a = Some(a);
            config.part_b = Some(b);
        }
        Detection::Missing(reason) => log::debug!("{reason}"),
    }
    config
}

fn partitions(class: &Path) -> Vec<Partition> {
    let Ok(entries) = std::fs::read_dir(class) else {
        return Vec::new();
    };
    let mut found: Vec<Partition> = entries
        .flatten()
        .filter_map(|entry| partition(&entry.path()))
        .collect();
    found.sort_by(|a, b| a.device.cmp(&b.device));
    found
}

fn partition(entry: &Path) -> Option<Partition> {
    let text = read_bounded(&entry.join("uevent"), UEVENT_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    // the entry of a partition lies in that of its disk
    let place = std::fs::canonicalize(entry).ok()?;
    Some(Partition {
        label: value("PARTNAME")?.to_owned(),
        device: Path::new("/dev").join(value("DEVNAME")?),
        disk: place.parent()?.to_owned(),
    })
}

fn folded(label: &str) -> String {
    label
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn pair(partitions: &[Partition]) -> Result<(PathBuf, PathBuf), String> {
    let named = |name: &str| -> Vec<&Partition> {
        partitions
            .iter()
            .filter(|partition| folded(&partition.label) == name)
            .collect()
    };
    let candidates: Vec<_> = PAIRS
        .iter()
        .map(|(a, b)| (named(a), named(b)))
        .filter(|(a, b)| !a.is_empty() && !b.is_empty())
        .collect();
    let show = |all: &[&Partition]| -> String {
        let shown: Vec<String> = all
            .iter()
            .map(|one| format!("{} ({})", one.label, one.device.display()))
            .collect();
        shown.join(", ")
    };
    match candidates.as_slice() {
        [] => {
            Err("no two partitions have names of a pair, such as rootfs_a and rootfs_b".to_owned())
        }
        [(a, b)] => match (a.as_slice(), b.as_slice()) {
            ([a], [b]) if a.disk == b.disk => Ok((a.device.clone(), b.device.clone())),
            ([a], [b]) => Err(format!("{} are on different disks", show(&[a, b]))),
            _ => Err(format!(
                "several partitions have the same name: {}",
                show(&[a.as_slice(), b.as_slice()].concat())
            )),
        },
        several => {
            let all: Vec<&Partition> = several
                .iter()
                .flat_map(|(a, b)| [a.as_slice(), b.as_slice()].concat())
                .collect();
            Err(format!(
                "several pairs of partitions would do: {}",
                show(&all)
            ))
        }
    }
}

fn check_root(config: &RootfsConfig, a: PathBuf, b: PathBuf) -> Result<(PathBuf, PathBuf), String> {
    let found = RootfsConfig {
        part_a: Some(a.clone()),
        part_b: Some(b.clone()),
        ..config.clone()
    };
    let running = Slots::resolve(&found)
        .and_then(|slots| Running::find(&found, &slots))
        .map_err(|error| error.to_string())?;
    match running {
        Running::Slot(_) => Ok((a, b)),
        other => Err(format!(
            "{} and {} have the names of slots, but the running root {} is neither",
            a.display(),
            b.display(),
            other.describe()
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    /// A device whose partitions are plain files; the first one of each pair runs.
    struct Board {
        dir: tempfile::TempDir,
        config: RootfsConfig,
    }

    impl Board {
        fn new(partitions: &[(&str, &str, &str)], running: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let class = dir.path().join("class");
            std::fs::create_dir(&class).unwrap();
            for (disk, name, label) in partitions {
                let device = dir.path().join(name);
                std::fs::write(&device, b"").unwrap();
                let place = dir.path().join("devices").join(disk).join(name);
                std::fs::create_dir_all(&place).unwrap();
                let text = format!(
                    "MAJOR=8\nMINOR=1\nDEVNAME={}\nDEVTYPE=partition\nPARTNAME={label}\n",
                    device.display()
                );
                std::fs::write(place.join("uevent"), text).unwrap();
                std::os::unix::fs::symlink(&place, class.join(name)).unwrap();
            }
            let config = RootfsConfig {
                block_class: Some(class),
                running_root: Some(dir.path().join(running)),
                ..RootfsConfig::default()
            };
            Self { dir, config }
        }

        fn found(&self) -> Result<(String, String), String> {
            let name = |path: PathBuf| {
                let name = path.strip_prefix(self.dir.path()).unwrap();
                name.display().to_string()
            };
            match detect(&self.config) {
                Detection::Found { a, b } => Ok((name(a), name(b))),
                Detection::Missing(reason) => Err(reason),
                Detection::Configured => panic!("nothing is configured"),
            }
        }
    }

    #[test]
    fn the_usual_names_are_found_in_their_order() {
        for (a, b) in [
            ("rootfs_a", "rootfs_b"),
            ("rootfsA", "rootfsB"),
            ("root-a", "root-b"),
            ("primary", "secondary"),
            ("Rootfs 1", "Rootfs 2"),
        ] {
            let partitions = [
                ("sda", "sda1", "ESP"),
                ("sda", "sda2", b),
                ("sda", "sda3", a),
                ("sda", "sda4", "data"),
            ];
            let board = Board::new(&partitions, "sda2");
            let pair = ("sda3".to_owned(), "sda2".to_owned());
            assert_eq!(board.found(), Ok(pair), "{a} {b}");
            let slots = Slots::resolve(&completed(&board.config)).unwrap();
            assert_eq!((slots.a.number, slots.b.number), (3, 2));
        }
    }

    #[test]
    fn what_is_not_certain_is_left_to_people() {
        let refused = |partitions: &[(&str, &str, &str)], running: &str, word: &str| {
            let reason = Board::new(partitions, running).found().unwrap_err();
            assert!(reason.contains(word), "{word} in {reason}");
        };
        let a = ("sda", "sda2", "rootfs_a");
        let b = ("sda", "sda3", "rootfs_b");
        refused(&[a, ("sda", "sda3", "data")], "sda2", "no two partitions");
        let stick = ("sdb", "sdb1", "rootfs_a");
        refused(&[a, b, stick], "sda2", "same name");
        refused(&[a, ("sdb", "sdb3", "rootfs_b")], "sda2", "different disks");
        let more = [a, b, ("sda", "sda4", "root-a"), ("sda", "sda5", "root-b")];
        refused(&more, "sda2", "several pairs");
        refused(&[a, b, ("sda", "sda7", "live")], "sda7", "is neither");
    }

    #[test]
    fn a_configuration_is_never_overridden() {
        let a = ("sda", "sda2", "rootfs_a");
        let b = ("sda", "sda3", "rootfs_b");
        let mut board = Board::new(&[a, b], "sda2");
        board.config.part_a = Some("/dev/x2".into());
        assert_eq!(detect(&board.config), Detection::Configured);
        assert_eq!(completed(&board.config).part_b, None);
    }
}
