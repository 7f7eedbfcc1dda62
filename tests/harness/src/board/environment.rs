//! The boot environment on the boot partition, in the formats of both boot loaders.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

const GRUB_BYTES: usize = 1024;
const GRUB_SIGNATURE: &str = "# GRUB Environment Block";
const UBOOT_BYTES: usize = 0x4000;
/// Checksum and counter.
const UBOOT_HEADER_BYTES: usize = 5;

/// Variables of the boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEnvironment(pub BTreeMap<String, String>);

impl BootEnvironment {
    /// The value of a variable, empty if it is missing.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    fn from_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        Self(
            lines
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }
}

/// Whose format it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BootLoader {
    /// Two blocks of lines that say the same, each with a guard variable.
    Grub,
    /// Two checked copies with a counter, of which the newer holds.
    Uboot,
}

/// One readable copy; GRUB's have no counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredCopy {
    pub environment: BootEnvironment,
    pub counter: u8,
}

impl BootLoader {
    /// The file of copy 1 or 2.
    pub fn path(self, copy: u8) -> &'static str {
        match (self, copy) {
            (Self::Grub, 1) => "grub-ambidex-env/env1",
            (Self::Grub, _) => "grub-ambidex-env/env2",
            (Self::Uboot, 1) => "uboot.env",
            (Self::Uboot, _) => "uboot-redund.env",
        }
    }

    /// Reads a copy; an error when the boot loader would not take it.
    pub fn decode(self, block: &[u8]) -> Result<StoredCopy> {
        match self {
            Self::Grub => {
                let text = String::from_utf8_lossy(block);
                let mut lines = text.lines();
                if block.len() != GRUB_BYTES || lines.next() != Some(GRUB_SIGNATURE) {
                    bail!(
                        "the environment block is damaged ({} bytes): {:?}",
                        block.len(),
                        text.get(..60)
                    );
                }
                Ok(StoredCopy {
                    environment: BootEnvironment::from_lines(lines),
                    counter: 0,
                })
            }
            Self::Uboot => {
                let (header, data) = block
                    .split_at_checked(UBOOT_HEADER_BYTES)
                    .context("the environment is damaged: it is too short")?;
                let stored = header.iter().take(4).rev();
                let stored = stored.fold(0, |number, &byte| number << 8 | u32::from(byte));
                if block.len() != UBOOT_BYTES || crc32fast::hash(data) != stored {
                    bail!(
                        "the environment is damaged ({} bytes): its checksum is wrong",
                        block.len()
                    );
                }
                let text = String::from_utf8_lossy(data);
                let entries = text.split('\0').take_while(|entry| !entry.is_empty());
                Ok(StoredCopy {
                    environment: BootEnvironment::from_lines(entries),
                    counter: header.last().copied().unwrap_or_default(),
                })
            }
        }
    }

    /// The bytes of a copy.
    pub fn encode(self, copy: &StoredCopy) -> Vec<u8> {
        let variables = copy.environment.0.iter();
        match self {
            Self::Grub => {
                let variables: Vec<_> = variables
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                environment_block(&variables)
            }
            Self::Uboot => {
                let mut data: Vec<u8> = variables
                    .flat_map(|(name, value)| format!("{name}={value}\0").into_bytes())
                    .collect();
                data.resize(UBOOT_BYTES - UBOOT_HEADER_BYTES, 0);
                let mut block = crc32fast::hash(&data).to_le_bytes().to_vec();
                block.push(copy.counter);
                block.extend(data);
                block
            }
        }
    }

    /// What the boot loader goes by, of its two copies as they are on the disk.
    pub fn choose(
        self,
        first: Result<StoredCopy>,
        second: Result<StoredCopy>,
    ) -> Result<BootEnvironment> {
        let (first, second) = match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            (Ok(only), Err(_)) | (Err(_), Ok(only)) => return Ok(only.environment),
            (Err(first), Err(_)) => return Err(first),
        };
        match self {
            Self::Grub => Ok(first.environment),
            Self::Uboot => {
                // the counter goes from 255 to 0
                let second_is_newer = match (first.counter, second.counter) {
                    (255, 0) => true,
                    (0, 255) => false,
                    (first, second) => second > first,
                };
                let newer = if second_is_newer { second } else { first };
                Ok(newer.environment)
            }
        }
    }
}

/// The bytes of a GRUB environment block with these variables.
pub fn environment_block(variables: &[(&str, &str)]) -> Vec<u8> {
    let mut block = format!("{GRUB_SIGNATURE}\n").into_bytes();
    for (name, value) in variables {
        block.extend_from_slice(format!("{name}={value}\n").as_bytes());
    }
    block.resize(GRUB_BYTES, b'#');
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(part: &str, counter: u8) -> StoredCopy {
        let mut environment = BootEnvironment(BTreeMap::new());
        environment.set("mender_boot_part", part);
        StoredCopy {
            environment,
            counter,
        }
    }

    #[test]
    fn an_environment_is_written_and_read_in_both_formats() {
        for loader in [BootLoader::Grub, BootLoader::Uboot] {
            let written = copy("3", 0);
            let block = loader.encode(&written);
            let read = loader.decode(&block).expect("a good copy");
            assert_eq!(read, written);
            assert_eq!(read.environment.get("absent"), "");
            let error = loader.decode(&block[..1000]).expect_err("too short");
            assert!(error.to_string().contains("damaged"), "{error}");
        }
        let mut block = BootLoader::Uboot.encode(&copy("3", 7));
        block[100] ^= 1;
        let error = BootLoader::Uboot.decode(&block).expect_err("a flipped bit");
        assert!(error.to_string().contains("checksum"), "{error}");
    }

    #[test]
    fn u_boot_takes_the_newer_good_copy() {
        let chosen = |first, second| {
            let chosen = BootLoader::Uboot.choose(first, second);
            chosen.map(|environment| environment.get("mender_boot_part").to_owned())
        };
        let bad = || Err(anyhow::anyhow!("damaged"));
        for (first, second, part) in [
            (Ok(copy("2", 1)), Ok(copy("3", 2)), "3"),
            (Ok(copy("2", 2)), Ok(copy("3", 1)), "2"),
            (Ok(copy("2", 255)), Ok(copy("3", 0)), "3"),
            (Ok(copy("2", 0)), Ok(copy("3", 255)), "2"),
            (bad(), Ok(copy("3", 1)), "3"),
            (Ok(copy("2", 1)), bad(), "2"),
        ] {
            assert_eq!(chosen(first, second).expect("a good copy"), part);
        }
        assert!(chosen(bad(), bad()).is_err());
    }
}
