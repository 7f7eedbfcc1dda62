//! The configuration: which microcontrollers there are and how their bootloaders are reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Where the configuration is.
const FILE: &str = "/etc/ambidex/serial-mcu.toml";
/// Names another file, for tests and for several systems in one.
const FILE_VARIABLE: &str = "AMBIDEX_SERIAL_MCU_CONFIG";
/// Where the flash of every STM32 begins.
const STM32_FLASH: u32 = 0x0800_0000;

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration {path}: {cause}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not TOML, or has settings that are not known.
    #[error("the configuration {path} cannot be understood: {cause}", path = .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        cause: Box<toml::de::Error>,
    },
    /// A target is not described, or in a way that cannot be.
    #[error("the configuration has a mistake: target '{target}' {problem}")]
    Target {
        /// Name of the target.
        target: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The artifact names no target and there is not exactly one.
    #[error(
        "the artifact names no target (payload file `target`), and the configuration has {count} of them"
    )]
    Ambiguous {
        /// How many there are.
        count: usize,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    target: BTreeMap<String, Target>,
}

/// One microcontroller.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The serial port.
    pub device: PathBuf,
    /// What its bootloader speaks.
    pub protocol: Protocol,
    #[serde(default = "baud")]
    pub baud: u32,
    /// The line that selects the bootloader.
    pub boot0: Option<Pin>,
    /// The line that resets the microcontroller.
    pub reset: Option<Pin>,
    /// Starts the bootloader, in place of lines.
    pub enter_command: Option<Vec<String>>,
    /// Starts the application, in place of lines.
    pub leave_command: Option<Vec<String>>,
    /// How long reset is held.
    #[serde(default = "reset_ms")]
    reset_ms: u64,
    /// How long the bootloader takes to start.
    #[serde(default = "boot_ms")]
    boot_ms: u64,
    /// How long an answer may take.
    answer_ms: Option<u64>,
    /// How often a step is tried.
    #[serde(default = "tries")]
    pub tries: u32,

    /// Where the image goes.
    pub address: Option<u32>,
    /// Where the flash begins: page 0.
    #[serde(default = "flash_address")]
    pub flash_address: u32,
    pub flash_size: Option<u32>,
    /// Of pages that are all of one size.
    pub page_size: Option<u32>,
    /// Sizes of all pages, from the first.
    pub sectors: Option<Vec<u32>>,
    #[serde(default)]
    pub erase: Erase,
    /// How long an erasure may take.
    #[serde(default = "erase_ms")]
    erase_ms: u64,
    /// Read back what was written.
    #[serde(default = "verify")]
    pub verify: bool,

    /// XMODEM: bytes in a block, 128 or 1024.
    #[serde(default = "block")]
    pub block: usize,
    /// XMODEM: what the last block is filled with.
    #[serde(default = "padding")]
    pub padding: u8,
    /// XMODEM: what is sent to the bootloader to make it receive.
    pub greeting: Option<String>,
}

/// What a bootloader speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The system bootloader of the STM32 family on its UART (AN3155).
    Stm32,
    /// XMODEM with CRC or checksum, blocks of 128 or 1024 bytes.
    Xmodem,
}

/// What is erased before writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Erase {
    /// The pages that the image needs.
    #[default]
    Pages,
    /// The whole flash.
    Mass,
}

/// A control line of the serial port that is wired to a pin; with `!` the pin is active when the line is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Pin {
    #[serde(rename = "rts")]
    Rts,
    #[serde(rename = "dtr")]
    Dtr,
    #[serde(rename = "!rts")]
    RtsInverted,
    #[serde(rename = "!dtr")]
    DtrInverted,
}

fn baud() -> u32 {
    115_200
}
fn reset_ms() -> u64 {
    10
}
fn boot_ms() -> u64 {
    100
}
fn tries() -> u32 {
    5
}
fn flash_address() -> u32 {
    STM32_FLASH
}
fn erase_ms() -> u64 {
    60_000
}
fn verify() -> bool {
    true
}
fn block() -> usize {
    1024
}
fn padding() -> u8 {
    0x1A
}

impl Target {
    /// How long reset is held.
    pub fn reset_time(&self) -> Duration {
        Duration::from_millis(self.reset_ms)
    }

    /// How long the bootloader takes to start.
    pub fn boot_time(&self) -> Duration {
        Duration::from_millis(self.boot_ms)
    }

    /// How long an answer may take.
    pub fn answer_time(&self) -> Duration {
        // a receiver of XMODEM may have to erase before it takes a block, and asks every few seconds only
        let usual = match self.protocol {
            Protocol::Stm32 => 1000,
            Protocol::Xmodem => 10_000,
        };
        Duration::from_millis(self.answer_ms.unwrap_or(usual))
    }

    /// How long an erasure may take.
    pub fn erase_time(&self) -> Duration {
        Duration::from_millis(self.erase_ms)
    }

    fn problem(&self) -> Option<&'static str> {
        let lines = self.boot0.is_some() || self.reset.is_some();
        let commands = self.enter_command.is_some() || self.leave_command.is_some();
        let empty = |command: &Option<Vec<String>>| command.as_ref().is_some_and(Vec::is_empty);
        if lines && commands {
            return Some("has both lines and commands to start the bootloader: choose one");
        }
        if empty(&self.enter_command) || empty(&self.leave_command) {
            return Some("has an empty command");
        }
        if self.baud == 0 || self.tries == 0 {
            return Some("has 0 for 'baud' or 'tries'");
        }
        if self.protocol == Protocol::Xmodem {
            return (self.block != 128 && self.block != 1024)
                .then_some("needs 'block' 128 or 1024");
        }
        match (&self.sectors, self.page_size, self.flash_size) {
            (Some(sectors), None, None) if !sectors.is_empty() && !sectors.contains(&0) => None,
            (None, Some(page), Some(flash)) if page > 0 && flash > 0 && flash % page == 0 => None,
            _ => Some("needs either 'sectors', or 'page_size' and 'flash_size', a multiple of it"),
        }
    }
}

/// The target that the artifact names, or the only one.
///
/// # Errors
/// When there is no such target or the configuration has a mistake.
pub fn load(name: Option<&str>) -> Result<(String, Target), ConfigError> {
    let path = std::env::var_os(FILE_VARIABLE).map_or_else(|| PathBuf::from(FILE), PathBuf::from);
    let text = std::fs::read_to_string(&path).map_err(|cause| ConfigError::Read {
        path: path.clone(),
        cause,
    })?;
    choose(&path, &text, name)
}

fn choose(path: &Path, text: &str, name: Option<&str>) -> Result<(String, Target), ConfigError> {
    let mut file: File = toml::from_str(text).map_err(|cause| ConfigError::Parse {
        path: path.to_owned(),
        cause: Box::new(cause),
    })?;
    let count = file.target.len();
    let found = match name {
        Some(name) => file.target.remove_entry(name),
        None if count == 1 => file.target.pop_first(),
        None => return Err(ConfigError::Ambiguous { count }),
    };
    let wrong = |target: &str, problem: &str| ConfigError::Target {
        target: target.to_owned(),
        problem: problem.to_owned(),
    };
    let (name, target) = found.ok_or_else(|| wrong(name.unwrap_or_default(), "is not in it"))?;
    match target.problem() {
        Some(problem) => Err(wrong(&name, problem)),
        None => Ok((name, target)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn chosen(text: &str, name: Option<&str>) -> Result<(String, Target), String> {
        choose(Path::new("test.toml"), text, name).map_err(|error| error.to_string())
    }

    const MOTOR: &str = "[target.motor]\ndevice = '/dev/ttyS1'\nprotocol = 'stm32'\n";

    #[test]
    fn a_target_is_chosen_by_name_or_because_it_is_the_only_one() {
        let text = format!("{MOTOR}page_size = 0x400\nflash_size = 0x10000\nboot0 = '!rts'\n");
        let (name, target) = chosen(&text, None).unwrap();
        assert_eq!(
            (name.as_str(), target.boot0),
            ("motor", Some(Pin::RtsInverted))
        );
        assert_eq!(
            (target.baud, target.answer_time()),
            (115_200, Duration::from_secs(1))
        );
        assert!(chosen(&text, Some("motor")).is_ok());
        let error = chosen(&text, Some("other")).unwrap_err();
        assert!(error.contains("'other' is not in it"), "{error}");
        let two = format!("{text}[target.lamp]\ndevice = '/dev/ttyS2'\nprotocol = 'xmodem'\n");
        assert!(chosen(&two, None).unwrap_err().contains("2 of them"));
        let (_, lamp) = chosen(&two, Some("lamp")).unwrap();
        assert_eq!(
            (lamp.block, lamp.answer_time()),
            (1024, Duration::from_secs(10))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (more, wanted) in [
            ("", "'page_size' and 'flash_size'"),
            ("page_size = 3\nflash_size = 1024", "a multiple of it"),
            ("sectors = []", "'sectors'"),
            (
                "sectors = [1]\nboot0 = 'rts'\nenter_command = ['x']",
                "choose one",
            ),
            ("sectors = [1]\nenter_command = []", "empty command"),
            ("sectors = [1]\ntries = 0", "'tries'"),
            ("speed = 1", "speed"),
            ("reset = 'cts'", "cts"),
        ] {
            let error = chosen(&format!("{MOTOR}{more}"), None).unwrap_err();
            assert!(error.contains(wanted), "{more}: {error}");
        }
        let xmodem = "[target.x]\ndevice = '/dev/ttyS1'\nprotocol = 'xmodem'\nblock = 64\n";
        assert!(chosen(xmodem, None).unwrap_err().contains("128 or 1024"));
    }
}
