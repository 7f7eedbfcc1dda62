//! What an update asks of a boot loader, whichever it is, and which one this device has.

use std::path::Path;

use super::{
    Boot, BootConfig, BootError, BootKind, GrubEnv, Script, SystemdBoot, Tryboot, Variables,
};

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// `rootfs_part_a`
    A,
    /// `rootfs_part_b`
    B,
}

impl Side {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The slot beside this one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `a` or `b`, as programs are told.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    pub(crate) fn of<T>(self, pair: &[T; 2]) -> &T {
        match self {
            Self::A => &pair[0],
            Self::B => &pair[1],
        }
    }

    pub(crate) fn at<T: PartialEq>(pair: &[T; 2], value: &T) -> Option<Self> {
        Self::BOTH.into_iter().find(|side| side.of(pair) == value)
    }
}

/// What the boot loader says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The slot that counts: the next boot's while a trial is prepared or a way back was taken, else that
    /// which runs. `None` when the boot loader names neither.
    pub side: Option<Side>,
    /// True from the preparation of a trial until its commit, or until the way back was taken.
    pub trial: bool,
    /// The evidence, for people.
    pub says: String,
    /// Why no update may begin, although everything can be read.
    pub obstacle: Option<String>,
}

/// One line of the self-test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// False when something must be changed.
    pub good: bool,
    /// What was found and, where it is bad, what to do.
    pub text: String,
}

impl Finding {
    /// As it should be.
    pub fn good(text: impl Into<String>) -> Self {
        Self {
            good: true,
            text: text.into(),
        }
    }

    /// Must be changed.
    pub fn bad(text: impl Into<String>) -> Self {
        Self {
            good: false,
            text: text.into(),
        }
    }
}

/// What the self-test knows of the board besides the boot loader.
pub(crate) struct Board<'a> {
    /// Devices of the slots, where they could be resolved.
    pub slots: Option<[&'a Path; 2]>,
    /// The command that restarts the device.
    pub reboot_command: &'a [String],
    /// Type of the file system mounted exactly there.
    pub file_system: &'a dyn Fn(&Path) -> Option<String>,
}

impl Board<'_> {
    /// Whether a directory is a mounted FAT file system, as firmware needs it.
    pub(crate) fn fat(&self, dir: &Path, key: &str) -> Finding {
        let shown = dir.display();
        match (self.file_system)(dir) {
            Some(kind) if kind == "vfat" || kind == "msdos" => {
                Finding::good(format!("{shown} is a mounted FAT file system"))
            }
            Some(kind) => Finding::bad(format!(
                "{shown} is a file system of type {kind}; the firmware reads FAT only"
            )),
            None => Finding::bad(format!(
                "{shown} is no mount point: mount the partition there, or set [boot] {key}"
            )),
        }
    }
}

/// A boot loader as an update sees it. Every call may be repeated, and a power cut in the middle of one
/// leaves a good slot to boot.
pub(crate) trait SlotLoader {
    /// For logs.
    fn name(&self) -> &'static str;

    /// What the boot loader says. `running` is the slot that `/` came from, as far as the kernel tells;
    /// it counts where the boot loader leaves no trace of its own.
    async fn state(&self, running: Option<Side>) -> Result<State, BootError>;

    /// The next boot tries this slot; the boot after it is the other one's, unless it was committed.
    async fn try_next(&self, side: Side) -> Result<(), BootError>;

    /// The slot on trial is the one to boot from now on.
    async fn commit(&self, side: Side) -> Result<(), BootError>;

    /// Ends a trial: from now on this slot is booted again.
    async fn go_back(&self, side: Side) -> Result<(), BootError>;

    /// What the restart must be given as its argument, so that it is the prepared trial.
    fn reboot_argument(&self) -> Option<&'static str> {
        None
    }

    /// What is wrong, and what is right, with the integration.
    async fn check(&self, board: &Board<'_>) -> Vec<Finding>;
}

/// The boot loader of this device.
#[derive(Debug, Clone)]
pub enum Loader {
    /// One with an environment: GRUB, U-Boot.
    Variables(Variables),
    /// The firmware of the Raspberry Pi.
    Tryboot(Tryboot),
    /// systemd-boot with boot counting.
    SystemdBoot(SystemdBoot),
    /// A program of the vendor.
    Script(Script),
}

macro_rules! each {
    ($self:ident, $loader:ident => $call:expr) => {
        match $self {
            Self::Variables($loader) => $call,
            Self::Tryboot($loader) => $call,
            Self::SystemdBoot($loader) => $call,
            Self::Script($loader) => $call,
        }
    };
}

impl Loader {
    /// Chooses the back end; `numbers` are the partition numbers of the slots. [`BootKind::Auto`] takes
    /// the first of: a configured script, GRUB's files, `autoboot.txt` with `tryboot_a_b`, entries of
    /// systemd-boot for both slots, and what [`Boot::open`] finds.
    ///
    /// # Errors
    /// When the wanted one, or any at all, is not there.
    pub fn open(config: &BootConfig, numbers: [u32; 2]) -> Result<Self, BootError> {
        let variables = || -> Result<Self, BootError> {
            Ok(Self::Variables(Variables::new(
                Boot::open(config)?,
                numbers,
            )))
        };
        match config.kind {
            BootKind::Grub | BootKind::Uboot | BootKind::Tools => variables(),
            BootKind::Tryboot => Ok(Self::Tryboot(Tryboot::open(config))),
            BootKind::SystemdBoot => Ok(Self::SystemdBoot(SystemdBoot::open(config))),
            BootKind::Script => Script::open(config).map(Self::Script),
            BootKind::Auto if config.script.is_some() => Script::open(config).map(Self::Script),
            BootKind::Auto if GrubEnv::is_present(&config.env_dir) => variables(),
            BootKind::Auto if Tryboot::is_present(config) => {
                Ok(Self::Tryboot(Tryboot::open(config)))
            }
            BootKind::Auto if SystemdBoot::is_present(config) => {
                Ok(Self::SystemdBoot(SystemdBoot::open(config)))
            }
            BootKind::Auto => variables(),
        }
    }
}

impl SlotLoader for Loader {
    fn name(&self) -> &'static str {
        each!(self, loader => loader.name())
    }

    async fn state(&self, running: Option<Side>) -> Result<State, BootError> {
        each!(self, loader => loader.state(running).await)
    }

    async fn try_next(&self, side: Side) -> Result<(), BootError> {
        each!(self, loader => loader.try_next(side).await)
    }

    async fn commit(&self, side: Side) -> Result<(), BootError> {
        each!(self, loader => loader.commit(side).await)
    }

    async fn go_back(&self, side: Side) -> Result<(), BootError> {
        each!(self, loader => loader.go_back(side).await)
    }

    fn reboot_argument(&self) -> Option<&'static str> {
        each!(self, loader => loader.reboot_argument())
    }

    async fn check(&self, board: &Board<'_>) -> Vec<Finding> {
        each!(self, loader => loader.check(board).await)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn found(config: &BootConfig) -> &'static str {
        Loader::open(config, [2, 3]).unwrap().name()
    }

    /// Each step adds something that comes before everything that was there.
    #[test]
    fn without_a_kind_the_more_certain_evidence_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut config = BootConfig {
            env_dir: path("env"),
            fw_env_config: path("fw_env.config"),
            autoboot_dir: path("autoboot"),
            esp: path("esp"),
            ..BootConfig::default()
        };
        std::fs::write(path("uboot"), [0; 512]).unwrap();
        let line = format!("{} 0 200\n", path("uboot").display());
        std::fs::write(path("fw_env.config"), line).unwrap();
        assert!(matches!(
            Loader::open(&config, [2, 3]),
            Ok(Loader::Variables(_))
        ));
        let entries = path("esp/loader/entries");
        std::fs::create_dir_all(&entries).unwrap();
        std::fs::write(entries.join("ambidex-a.conf"), "").unwrap();
        assert_ne!(found(&config), "systemd-boot", "one entry is no pair");
        std::fs::write(entries.join("ambidex-b+0-1.conf"), "").unwrap();
        assert_eq!(found(&config), "systemd-boot");
        std::fs::create_dir(path("autoboot")).unwrap();
        let autoboot = path("autoboot/autoboot.txt");
        std::fs::write(&autoboot, "[all]\nboot_partition=2\n").unwrap();
        assert_eq!(found(&config), "systemd-boot", "no A/B without tryboot_a_b");
        std::fs::write(&autoboot, "[all]\ntryboot_a_b=1\nboot_partition=2\n").unwrap();
        assert_eq!(found(&config), "tryboot");
        std::fs::create_dir(path("env")).unwrap();
        std::fs::write(path("env/env1"), "").unwrap();
        assert_eq!(found(&config), "grub environment blocks");
        config.script = Some(path("script"));
        assert_eq!(found(&config), "script of the vendor");
        config.kind = BootKind::Tryboot;
        assert_eq!(found(&config), "tryboot");
    }
}
