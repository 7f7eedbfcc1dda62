//! What the texts on the disk say to the firmware of a Raspberry Pi. Pure.
//!
//! Written from Raspberry Pi's documentation and not from our agent, which writes these texts.

/// The firmware reads no more of `autoboot.txt`.
const AUTOBOOT_BYTES: usize = 512;

/// What `autoboot.txt` selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::board) struct Selection {
    /// The partition to boot; without one the first that can be booted.
    pub partition: Option<u8>,
    /// The file in it that says what to start.
    pub config: &'static str,
}

/// What `config.txt` names: files of the same partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub kernel: String,
    pub initramfs: Option<String>,
    pub cmdline: String,
}

/// Lines below a filter that passes; other filters ask for a model, and this machine is none.
fn lines(text: &str, tryboot: bool) -> impl Iterator<Item = &str> {
    let mut counts = true;
    text.lines().map(str::trim).filter(move |line| {
        let filter = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(filter) = filter {
            counts = filter == "all" || (filter == "tryboot" && tryboot);
        }
        counts && filter.is_none() && !line.starts_with('#')
    })
}

/// The last value of a key.
fn value<'a>(text: &'a str, tryboot: bool, key: &str) -> Option<&'a str> {
    lines(text, tryboot)
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.trim() == key)
        .last()
        .map(|(_, value)| value.trim())
}

/// Reads `autoboot.txt`; a missing one is an empty one.
pub(in crate::board) fn select(autoboot: &[u8], tryboot: bool) -> Selection {
    let read = autoboot.get(..AUTOBOOT_BYTES).unwrap_or(autoboot);
    let text = String::from_utf8_lossy(read);
    let partitions = value(&text, tryboot, "tryboot_a_b") == Some("1");
    Selection {
        partition: value(&text, tryboot, "boot_partition")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number != 0),
        config: match tryboot && !partitions {
            true => "tryboot.txt",
            false => "config.txt",
        },
    }
}

/// Reads `config.txt`.
pub(super) fn config(text: &str, tryboot: bool) -> Config {
    let named = |key| value(text, tryboot, key).map(str::to_owned);
    Config {
        kernel: named("kernel").unwrap_or_else(|| "kernel8.img".to_owned()),
        initramfs: lines(text, tryboot)
            .filter_map(|line| line.strip_prefix("initramfs "))
            .filter_map(|line| line.split_whitespace().next())
            .last()
            .map(str::to_owned),
        cmdline: named("cmdline").unwrap_or_else(|| "cmdline.txt".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(text: &str, tryboot: bool) -> (Option<u8>, &'static str) {
        let selection = select(text.as_bytes(), tryboot);
        (selection.partition, selection.config)
    }

    #[test]
    fn autoboot_selects_a_partition_and_by_tryboot_another_one() {
        let text = "# a comment\r\n[all]\r\ntryboot_a_b=1\r\nboot_partition=2\r\n[tryboot]\r\nboot_partition=3\r\n[none]\r\nboot_partition=4\r\n";
        assert_eq!(selected(text, false), (Some(2), "config.txt"));
        assert_eq!(selected(text, true), (Some(3), "config.txt"));
    }

    #[test]
    fn without_tryboot_a_b_another_file_is_tried_and_without_a_partition_the_first() {
        let text = "boot_partition=2\n";
        assert_eq!(selected(text, true), (Some(2), "tryboot.txt"));
        assert_eq!(selected("", false), (None, "config.txt"));
        assert_eq!(selected("boot_partition=0", false), (None, "config.txt"));
        assert_eq!(selected("boot_partition=x", false), (None, "config.txt"));
    }

    #[test]
    fn what_stands_behind_512_bytes_is_not_read() {
        let text = format!("boot_partition=2\n#{}\nboot_partition=3\n", "x".repeat(500));
        assert_eq!(selected(&text, false), (Some(2), "config.txt"));
    }

    #[test]
    fn config_names_kernel_initramfs_and_command_line() {
        let text = "arm_64bit=1\n[pi5]\nkernel=other\n[all]\nkernel=vmlinuz\ninitramfs initrd followkernel\n";
        let read = config(text, false);
        assert_eq!(
            (read.kernel.as_str(), read.initramfs.as_deref()),
            ("vmlinuz", Some("initrd"))
        );
        assert_eq!(read.cmdline, "cmdline.txt");
        let read = config("", false);
        assert_eq!(
            (read.kernel.as_str(), read.initramfs),
            ("kernel8.img", None)
        );
    }
}
