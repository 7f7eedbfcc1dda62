//! What is mounted where: the answer to "is this device in use" and "what is `/` made of".

use std::path::{Path, PathBuf};

use crate::fs::{self, FsError};

/// The kernel's name of a device: major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Driver class.
    pub major: u64,
    /// Instance.
    pub minor: u64,
}

impl DeviceNumber {
    /// Splits a `st_dev` or `st_rdev` value.
    #[must_use]
    pub fn from_raw(raw: u64) -> Self {
        #[expect(
            clippy::useless_conversion,
            reason = "dev_t is not u64 on every target"
        )]
        let raw = raw.into();
        Self {
            major: nix::sys::stat::major(raw),
            minor: nix::sys::stat::minor(raw),
        }
    }
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device of the file system; anonymous (major 0) for overlay, tmpfs and the like.
    pub device: DeviceNumber,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// File system type, for example `ext4` or `overlay`.
    pub fs_type: String,
    /// What was given to `mount`, for example `/dev/mmcblk0p2` or `ubi0:rootfsa`.
    pub source: String,
    /// Options of the file system, for example `lowerdir=/lower`.
    pub options: String,
}

impl Mount {
    /// The value of `key=value` among the file system's options.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options
            .split(',')
            .filter_map(|option| option.split_once('='))
            .find_map(|(name, value)| (name == key).then_some(value))
    }
}

/// All mounts this process sees, in the order they were made.
///
/// # Errors
/// When `/proc` does not answer.
pub fn mounts() -> Result<Vec<Mount>, FsError> {
    let bytes = fs::read_bounded(Path::new("/proc/self/mountinfo"), 4 * 1024 * 1024)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// The mount that is visible at exactly this mount point (the last one made there).
#[must_use]
pub fn mounted_at<'a>(mounts: &'a [Mount], mount_point: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .rev()
        .find(|mount| mount.mount_point == mount_point)
}

/// Parses the text of `mountinfo` (proc_pid_mountinfo(5)); lines of another shape are skipped.
#[must_use]
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (major, minor) = left.next()?.split_once(':')?;
    let device = DeviceNumber {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    };
    let _root_within_fs = left.next()?;
    let mount_point = PathBuf::from(unescape(left.next()?));
    let mut right = right.split(' ');
    Some(Mount {
        device,
        mount_point,
        fs_type: right.next()?.to_owned(),
        source: unescape(right.next()?),
        options: unescape(right.next().unwrap_or_default()),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
36 22 0:31 / /my\\040dir rw - overlay overlay rw,lowerdir=/lower,upperdir=/up
37 22 8:3 / / rw - ext4 /dev/sda3 rw
short line
";

    #[test]
    fn lines_are_taken_apart() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].device, DeviceNumber { major: 8, minor: 2 });
        assert_eq!(mounts[0].source, "/dev/sda2");
        assert_eq!(mounts[1].mount_point, Path::new("/my dir"));
        assert_eq!(mounts[1].option("lowerdir"), Some("/lower"));
        assert_eq!(mounts[1].option("workdir"), None);
        assert_eq!(
            mounted_at(&mounts, Path::new("/")).unwrap().source,
            "/dev/sda3"
        );
    }

    #[test]
    fn the_live_table_has_a_root() {
        let mounts = mounts().unwrap();
        assert!(mounted_at(&mounts, Path::new("/")).is_some());
    }

    proptest::proptest! {
        #[test]
        fn parsing_anything_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn escapes_at_the_end_never_panic(text in "[\\\\0-9é ]{0,12}") {
            let _ = unescape(&text);
        }
    }
}
