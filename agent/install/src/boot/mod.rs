//! The boot loader: which slot boots next, and whether that is a trial.
//!
//! [`Loader`] is what [`crate::rootfs`] speaks to: one of several back ends behind one trait. Those with
//! an environment (GRUB, U-Boot) share [`Boot`], which owns its reading and atomic writing; the others
//! keep the choice in files of their own. Decides nothing about updates. The variables of an environment
//! are those of agent-behaviour section 7.1.

mod autoboot;
mod entry;
mod fw_config;
mod grub;
mod grub_block;
mod loader;
mod script;
mod steps;
mod systemd_boot;
mod tools;
mod tryboot;
mod uboot;
mod uboot_image;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ambidex_platform::fs::FsError;

pub use grub::GrubEnv;
pub use grub_block::GRUB_BLOCK_BYTES;
pub(crate) use loader::{Board, SlotLoader};
pub use loader::{Finding, Loader, Side, State};
pub use script::Script;
pub use systemd_boot::SystemdBoot;
pub use tools::Tools;
pub use tryboot::Tryboot;
pub use uboot::UbootEnv;
pub use variables::Variables;

/// Number of the partition to boot, decimal.
pub const BOOT_PART: &str = "mender_boot_part";
/// The same number in hexadecimal, for U-Boot's commands.
pub const BOOT_PART_HEX: &str = "mender_boot_part_hex";
/// `1` from the installation to the commit or the rollback.
pub const UPGRADE_AVAILABLE: &str = "upgrade_available";
/// Boots since the installation, counted by the bootloader during a trial.
pub const BOOTCOUNT: &str = "bootcount";
const CANARY_CHECK: &str = "mender_check_saveenv_canary";
const CANARY: &str = "mender_saveenv_canary";

/// Which back end to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootKind {
    /// The first that this device has: a configured script, GRUB files, tryboot, systemd-boot,
    /// GRUB tools, U-Boot environment, U-Boot tools.
    #[default]
    Auto,
    /// Two GRUB environment blocks, written natively.
    Grub,
    /// The U-Boot environment, written natively.
    Uboot,
    /// `grub-mender-grubenv-print`/`-set`, else `fw_printenv`/`fw_setenv`, found on `PATH`.
    Tools,
    /// The firmware of the Raspberry Pi with `autoboot.txt`.
    Tryboot,
    /// systemd-boot with boot counting.
    SystemdBoot,
    /// A program of the board's vendor.
    Script,
}

impl std::str::FromStr for BootKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "grub" => Ok(Self::Grub),
            "uboot" => Ok(Self::Uboot),
            "tools" => Ok(Self::Tools),
            "tryboot" => Ok(Self::Tryboot),
            "systemd-boot" => Ok(Self::SystemdBoot),
            "script" => Ok(Self::Script),
            other => Err(format!(
                "unknown boot kind {other:?}; known are auto, grub, uboot, tools, tryboot, systemd-boot and script"
            )),
        }
    }
}

/// Where the bootloader keeps its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootConfig {
    /// Back end.
    pub kind: BootKind,
    /// Directory of `env1` and `env2` of the GRUB back end.
    pub env_dir: PathBuf,
    /// Configuration of the U-Boot environment, in the format of libubootenv.
    pub fw_env_config: PathBuf,
    /// Variables that hold as long as U-Boot has never saved its environment, as `key=value`
    /// lines; used when the file exists.
    pub uboot_defaults: PathBuf,
    /// Where the partition with `autoboot.txt` is mounted (tryboot).
    pub autoboot_dir: PathBuf,
    /// Numbers of the boot partitions of slot A and slot B (tryboot).
    pub boot_parts: [u32; 2],
    /// What the firmware says of this boot (tryboot).
    pub firmware_dir: PathBuf,
    /// Says until the restart that a trial is prepared; on a file system in memory (tryboot).
    pub armed_file: PathBuf,
    /// Where the EFI system partition is mounted (systemd-boot).
    pub esp: PathBuf,
    /// The variables of the firmware (systemd-boot); only read.
    pub efivars: PathBuf,
    /// The vendor's program.
    pub script: Option<PathBuf>,
    /// Program and arguments that bring a slot's boot files to where its boot loader finds them; called
    /// with the slot (`a` or `b`) and its device before the switch.
    pub prepare_slot: Vec<String>,
}

impl Default for BootConfig {
    fn default() -> Self {
        Self {
            kind: BootKind::Auto,
            env_dir: PathBuf::from("/boot/efi/bootenv"),
            fw_env_config: PathBuf::from("/etc/fw_env.config"),
            uboot_defaults: PathBuf::from("/etc/u-boot-initial-env"),
            autoboot_dir: PathBuf::from("/boot/autoboot"),
            boot_parts: [2, 3],
            firmware_dir: PathBuf::from("/proc/device-tree/chosen/bootloader"),
            armed_file: PathBuf::from("/run/ambidex-tryboot"),
            esp: PathBuf::from("/boot/efi"),
            efivars: PathBuf::from("/sys/firmware/efi/efivars"),
            script: None,
            prepare_slot: Vec::new(),
        }
    }
}

/// Why the bootloader's variables cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// No back end was recognised.
    #[error(
        "no boot loader was recognised: neither {grub} with env1 and env2, nor {fw}, nor the tools grub-mender-grubenv-print or fw_printenv on PATH, nor autoboot.txt (tryboot) or entries ambidex-a and ambidex-b (systemd-boot) where they are configured; set [boot] kind and its location",
        grub = .env_dir.display(), fw = .fw_env_config.display()
    )]
    NotFound {
        /// Where GRUB's files were looked for.
        env_dir: PathBuf,
        /// Where U-Boot's configuration was looked for.
        fw_env_config: PathBuf,
    },
    /// Every copy of the environment is damaged.
    #[error(
        "no copy of the boot loader environment is readable: {0}; restore it from the boot loader or rewrite it with the board's tools"
    )]
    Damaged(String),
    /// The location or format is not one this back end can use.
    #[error("{0}")]
    Configuration(String),
    /// The new values do not fit or are not allowed.
    #[error("cannot store the boot loader variables: {0}")]
    Values(String),
    /// A file or device failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// An external tool failed.
    #[error("{0}")]
    Tool(String),
}

/// The variables as the bootloader will see them at its next start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootEnv {
    /// Name and value of everything that is set.
    pub vars: BTreeMap<String, String>,
}

impl BootEnv {
    /// The value of a variable.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.vars.get(key).map(String::as_str)
    }

    /// The partition number that boots next; `None` when unset or not a decimal number.
    #[must_use]
    pub fn boot_part(&self) -> Option<u32> {
        self.get(BOOT_PART)?.trim().parse().ok()
    }

    /// True from an installation until its commit or rollback. Anything but `1` is false, as in
    /// the bootloader scripts.
    #[must_use]
    pub fn upgrade_available(&self) -> bool {
        self.get(UPGRADE_AVAILABLE) == Some("1")
    }

    /// Boots counted since the installation; 0 when unset.
    #[must_use]
    pub fn bootcount(&self) -> u32 {
        self.get(BOOTCOUNT)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Proves that bootloader and user space share this environment, where the board was built
    /// to allow that proof: the bootloader must have set the canary at boot.
    ///
    /// # Errors
    /// A text for the user when the canary is missing.
    pub fn check_canary(&self) -> Result<(), String> {
        let wanted = self.get(CANARY_CHECK) == Some("1");
        if wanted && self.get(CANARY) != Some("1") {
            return Err(format!(
                "{CANARY_CHECK} is set, but the boot loader has not set {CANARY}: it does not use the environment that is visible here; check the location of the environment in both"
            ));
        }
        Ok(())
    }
}

/// The chosen back end.
#[derive(Debug, Clone)]
pub enum Boot {
    /// Two GRUB environment blocks.
    Grub(GrubEnv),
    /// A U-Boot environment.
    Uboot(UbootEnv),
    /// The board's own tools.
    Tools(Tools),
}

impl Boot {
    /// Chooses the environment. [`BootKind::Auto`] takes the first that is there: GRUB files in
    /// `env_dir`, GRUB tools, a natively usable `fw_env.config`, U-Boot tools.
    ///
    /// # Errors
    /// When the wanted one, or any at all, is not there, or the kind has no environment.
    pub fn open(config: &BootConfig) -> Result<Self, BootError> {
        match config.kind {
            BootKind::Grub => Ok(Self::Grub(GrubEnv::open(&config.env_dir))),
            BootKind::Uboot => UbootEnv::open(config).map(Self::Uboot),
            BootKind::Tools => Tools::find().map(Self::Tools).ok_or_else(|| {
                BootError::Configuration(
                    "neither grub-mender-grubenv-print and -set nor fw_printenv and fw_setenv are on PATH; install one pair or set [boot] kind".to_owned(),
                )
            }),
            BootKind::Auto => Self::detect(config),
            BootKind::Tryboot | BootKind::SystemdBoot | BootKind::Script => {
                Err(BootError::Configuration(
                    "this kind of boot loader has no environment".to_owned(),
                ))
            }
        }
    }

    fn detect(config: &BootConfig) -> Result<Self, BootError> {
        if GrubEnv::is_present(&config.env_dir) {
            return Ok(Self::Grub(GrubEnv::open(&config.env_dir)));
        }
        if let Some(tools) = Tools::find_grub() {
            return Ok(Self::Tools(tools));
        }
        let native = config
            .fw_env_config
            .exists()
            .then(|| UbootEnv::open(config));
        match native {
            Some(Ok(env)) => Ok(Self::Uboot(env)),
            other => match (Tools::find_uboot(), other) {
                (Some(tools), _) => Ok(Self::Tools(tools)),
                (None, Some(Err(error))) => Err(error),
                (None, _) => Err(BootError::NotFound {
                    env_dir: config.env_dir.clone(),
                    fw_env_config: config.fw_env_config.clone(),
                }),
            },
        }
    }

    /// Reads all variables.
    ///
    /// # Errors
    /// When no copy is readable or a tool fails.
    pub async fn read(&self) -> Result<BootEnv, BootError> {
        let vars = match self {
            Self::Grub(env) => env.read()?,
            Self::Uboot(env) => env.read()?,
            Self::Tools(tools) => tools.read().await?,
        };
        Ok(BootEnv { vars })
    }

    /// Sets variables in one atomic and durable step: after a power cut the bootloader sees either
    /// all of them or none. Variables not named stay as they are.
    ///
    /// # Errors
    /// When they cannot be stored; the values before then still hold.
    pub async fn write(&self, changes: &[(&str, &str)]) -> Result<(), BootError> {
        for (key, value) in changes {
            check_variable(key, value)?;
        }
        match self {
            Self::Grub(env) => env.write(changes),
            Self::Uboot(env) => env.write(changes),
            Self::Tools(tools) => tools.write(changes).await,
        }
    }

    /// Name of the back end for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Grub(_) => "grub environment blocks",
            Self::Uboot(_) => "u-boot environment",
            Self::Tools(tools) => tools.name(),
        }
    }
}

fn check_variable(key: &str, value: &str) -> Result<(), BootError> {
    let bad_key = key.is_empty() || key.contains(['=', '\n', '\0', ' ', '#', '\\']);
    if bad_key || value.contains(['\n', '\0']) {
        return Err(BootError::Values(format!(
            "{key:?}={value:?} has characters that an environment cannot hold"
        )));
    }
    Ok(())
}

/// Lays the changes over ordered variables: existing ones keep their place, new ones follow.
fn merge(vars: &mut Vec<(String, String)>, changes: &[(&str, &str)]) {
    for (key, value) in changes {
        match vars.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => (*value).clone_into(old),
            None => vars.push(((*key).to_owned(), (*value).to_owned())),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BootEnv {
        BootEnv {
            vars: pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn variables_are_read_as_the_bootloader_reads_them() {
        let env = env(&[(BOOT_PART, "3"), (UPGRADE_AVAILABLE, "1"), (BOOTCOUNT, "2")]);
        assert_eq!(
            (env.boot_part(), env.upgrade_available(), env.bootcount()),
            (Some(3), true, 2)
        );
        let empty = BootEnv::default();
        assert_eq!(
            (empty.boot_part(), empty.upgrade_available()),
            (None, false)
        );
    }

    #[test]
    fn the_canary_counts_only_where_it_is_asked_for() {
        assert!(env(&[]).check_canary().is_ok());
        assert!(
            env(&[(CANARY_CHECK, "1"), (CANARY, "1")])
                .check_canary()
                .is_ok()
        );
        let text = env(&[(CANARY_CHECK, "1")]).check_canary().unwrap_err();
        assert!(text.contains(CANARY), "{text}");
        assert!(
            env(&[(CANARY_CHECK, "1"), (CANARY, "0")])
                .check_canary()
                .is_err()
        );
    }

    #[test]
    fn what_an_environment_cannot_hold_is_refused() {
        assert!(check_variable("a", "b c").is_ok());
        for (key, value) in [
            ("", "x"),
            ("a=b", "x"),
            ("a", "x\ny"),
            ("a", "x\0"),
            ("a b", "x"),
        ] {
            assert!(check_variable(key, value).is_err(), "{key:?} {value:?}");
        }
    }

    #[test]
    fn nothing_found_names_every_place_looked_at() {
        let config = BootConfig {
            kind: BootKind::Grub,
            env_dir: "/no/such/dir".into(),
            ..BootConfig::default()
        };
        let Boot::Grub(env) = Boot::open(&config).unwrap() else {
            panic!("another back end")
        };
        let text = env.read().unwrap_err().to_string();
        assert!(text.contains("/no/such/dir/env1"), "{text}");
        assert!(
            "efi"
                .parse::<BootKind>()
                .unwrap_err()
                .contains("known are auto")
        );
    }
}
