//! Compression of the header and data members, chosen by the suffix of the member's name.

mod decode;
mod encode;

pub(crate) use decode::Decoded;
pub(crate) use encode::Encoder;

use std::fmt;
use std::str::FromStr;

/// How a member is compressed (artifact-format reference, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Stored as it is.
    None,
    /// gzip: read by every client there has been, so it is what is written unless asked otherwise.
    #[default]
    Gzip,
    /// The .xz container, which the format calls `lzma`: smallest, slowest, and needs the most
    /// memory on the device.
    Xz,
    /// Zstandard: smaller and several times faster than gzip; clients before version 4 cannot
    /// read it.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Xz, Self::Zstd];

    /// What follows `.tar` in the member's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// Splits `stem` + `.tar` + suffix; `None` when `member` is something else.
    pub(crate) fn of_member(member: &str, stem: &str) -> Option<Self> {
        let suffix = member.strip_prefix(stem)?.strip_prefix(".tar")?;
        Self::ALL.into_iter().find(|codec| codec.suffix() == suffix)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Xz => "lzma",
            Self::Zstd => "zstd",
        })
    }
}

/// The name is not one of `none`, `gzip`, `lzma`, `xz`, `zstd`, `zstd_fastest`, `zstd_fast`,
/// `zstd_better`, `zstd_best`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown compression {0:?}; known are none, gzip, lzma (or xz), zstd, zstd_fastest, zstd_fast, \
     zstd_better and zstd_best"
)]
pub struct UnknownCompression(pub String);

/// A compression and how hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompressionChoice {
    /// Which.
    pub compression: Compression,
    /// The codec's own level: gzip 0 to 9, xz 0 to 9, zstd 1 to 22. `None` is the level that the
    /// codec's authors recommend: 6, 6 and 3.
    pub level: Option<u8>,
}

impl CompressionChoice {
    /// The codec's default level.
    #[must_use]
    pub fn of(compression: Compression) -> Self {
        Self {
            compression,
            level: None,
        }
    }

    /// Highest level there is.
    #[must_use]
    pub fn level_max(compression: Compression) -> u8 {
        match compression {
            Compression::None => 0,
            Compression::Gzip | Compression::Xz => 9,
            Compression::Zstd => 22,
        }
    }
}

impl FromStr for CompressionChoice {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let (compression, level) = match name {
            "none" => (Compression::None, None),
            "gzip" => (Compression::Gzip, None),
            "lzma" | "xz" => (Compression::Xz, None),
            "zstd" => (Compression::Zstd, None),
            // The reference tool's names; its library has four levels, these are the nearest.
            "zstd_fastest" => (Compression::Zstd, Some(1)),
            "zstd_fast" => (Compression::Zstd, Some(3)),
            "zstd_better" => (Compression::Zstd, Some(7)),
            "zstd_best" => (Compression::Zstd, Some(11)),
            _ => return Err(UnknownCompression(name.to_owned())),
        };
        Ok(Self { compression, level })
    }
}
