//! The little of an ELF header that a package depends on: for which machine, and linked how.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Architectures that packages are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Amd64,
    Arm64,
    Armhf,
}

impl Architecture {
    /// This machine's.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            "arm" => Some(Self::Armhf),
            _ => None,
        }
    }

    /// By Debian's name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "amd64" => Self::Amd64,
            "arm64" => Self::Arm64,
            "armhf" => Self::Armhf,
            _ => bail!("--arch takes amd64, arm64 or armhf, not {name}"),
        })
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armhf => "armhf",
        }
    }
}

/// What a program's header says.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub architecture: Option<Architecture>,
    /// Needs a dynamic loader.
    pub dynamic: bool,
}

pub fn read(path: &Path) -> Result<Header> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is no program for Linux", path.display()))
}

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// The program header that names the dynamic loader.
const PT_INTERP: u64 = 3;

fn parse(bytes: &[u8]) -> Result<Header> {
    if bytes.get(..4) != Some(b"\x7fELF") || bytes.get(5) != Some(&LITTLE_ENDIAN) {
        bail!("it has no header of a little-endian ELF file");
    }
    let wide = bytes.get(4) == Some(&CLASS_64);
    let architecture = match (number(bytes, 18, 2)?, wide) {
        (62, true) => Some(Architecture::Amd64),
        (183, true) => Some(Architecture::Arm64),
        (40, false) => Some(Architecture::Armhf),
        _ => None,
    };
    // where the program headers begin, how large one is, how many there are
    let [table, size, count] = if wide {
        [
            number(bytes, 32, 8)?,
            number(bytes, 54, 2)?,
            number(bytes, 56, 2)?,
        ]
    } else {
        [
            number(bytes, 28, 4)?,
            number(bytes, 42, 2)?,
            number(bytes, 44, 2)?,
        ]
    };
    let mut dynamic = false;
    for index in 0..count {
        let at = usize::try_from(table.saturating_add(index * size))
            .context("its headers lie out of reach")?;
        dynamic |= number(bytes, at, 4)? == PT_INTERP;
    }
    Ok(Header {
        architecture,
        dynamic,
    })
}

fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64> {
    let field = bytes
        .get(at..at.saturating_add(length))
        .context("it is cut off in its headers")?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(machine: u8, wide: bool, kinds: &[u8]) -> Vec<u8> {
        let size: u8 = if wide { 56 } else { 32 };
        let start: u8 = if wide { 64 } else { 52 };
        let mut bytes = vec![0; usize::from(start) + kinds.len() * usize::from(size)];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1]);
        bytes[18] = machine;
        let [table, entry, count] = if wide { [32, 54, 56] } else { [28, 42, 44] };
        bytes[table] = start;
        bytes[entry] = size;
        bytes[count] = kinds.len() as u8;
        for (index, kind) in kinds.iter().enumerate() {
            bytes[usize::from(start) + index * usize::from(size)] = *kind;
        }
        bytes
    }

    #[test]
    fn machine_and_linking_are_told_and_a_cut_file_is_an_error() {
        let arm = parse(&header(40, false, &[1, 3])).ok();
        assert_eq!(
            arm,
            Some(Header {
                architecture: Some(Architecture::Armhf),
                dynamic: true
            })
        );
        let arm64 = parse(&header(183, true, &[1, 2])).ok();
        assert_eq!(
            arm64,
            Some(Header {
                architecture: Some(Architecture::Arm64),
                dynamic: false
            })
        );
        let other = parse(&header(8, false, &[])).ok();
        assert_eq!(
            other,
            Some(Header {
                architecture: None,
                dynamic: false
            })
        );
        let whole = header(62, true, &[1, 3]);
        assert!(parse(&whole[..whole.len() - 56]).is_err());
        assert!(parse(b"#!/bin/sh\n").is_err());
    }
}
