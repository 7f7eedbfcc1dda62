//! The text of `autoboot.txt`: which partition the firmware of a Raspberry Pi boots, and which one by
//! tryboot. Pure. What is not ours (comments, other keys, line ends) stays as it is.

/// The firmware reads no more.
pub(super) const AUTOBOOT_BYTES_MAX: usize = 512;
/// The partition with the boot files.
pub(super) const BOOT_PARTITION: &str = "boot_partition";
/// Tryboot chooses partitions, not files.
pub(super) const TRYBOOT_A_B: &str = "tryboot_a_b";

/// The lines, each with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Autoboot {
    lines: Vec<String>,
}

/// Below which header a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// `[all]`, or no header yet.
    All,
    /// `[tryboot]`
    Tryboot,
    /// `[none]`, or one that the firmware does not know here.
    Never,
}

impl Section {
    fn header(line: &str) -> Option<Self> {
        let name = line.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "all" => Self::All,
            "tryboot" => Self::Tryboot,
            _ => Self::Never,
        })
    }
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    Some((key.trim(), value.trim()))
}

impl Autoboot {
    /// # Errors
    /// Why the firmware would not read this as it is meant.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > AUTOBOOT_BYTES_MAX {
            return Err(format!(
                "it has {} bytes; the firmware reads {AUTOBOOT_BYTES_MAX}",
                bytes.len()
            ));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        if text.contains('\0') {
            return Err("it has zero bytes, as after a power cut: write it anew".to_owned());
        }
        let lines = text.split_inclusive('\n').map(str::to_owned).collect();
        Ok(Self { lines })
    }

    fn sections(&self) -> impl Iterator<Item = (usize, Section, &str)> {
        let mut section = Section::All;
        self.lines.iter().enumerate().map(move |(at, line)| {
            section = Section::header(line).unwrap_or(section);
            (at, section, line.as_str())
        })
    }

    /// What the firmware takes: the last assignment that counts, with or without the tryboot flag.
    pub(super) fn get(&self, key: &str, tryboot: bool) -> Option<&str> {
        self.sections()
            .filter(|(_, section, _)| match section {
                Section::All => true,
                Section::Tryboot => tryboot,
                Section::Never => false,
            })
            .filter_map(|(_, _, line)| assignment(line))
            .filter(|(name, _)| *name == key)
            .last()
            .map(|(_, value)| value)
    }

    /// The partition that is booted.
    pub(super) fn partition(&self, tryboot: bool) -> Option<u32> {
        self.get(BOOT_PARTITION, tryboot)?.parse().ok()
    }

    /// The same file with both partitions.
    ///
    /// # Errors
    /// Why it cannot be written so that the firmware understands it.
    pub(super) fn with_partitions(&self, default: u32, tried: u32) -> Result<Self, String> {
        let mut changed = self.clone();
        changed.set(Section::All, &default.to_string());
        changed.set(Section::Tryboot, &tried.to_string());
        if changed.partition(false) != Some(default) || changed.partition(true) != Some(tried) {
            return Err(
                "its sections contradict each other: [tryboot] has to stand behind [all]".into(),
            );
        }
        let length = changed.bytes().len();
        if length > AUTOBOOT_BYTES_MAX {
            return Err(format!(
                "it would have {length} bytes; the firmware reads {AUTOBOOT_BYTES_MAX}"
            ));
        }
        Ok(changed)
    }

    fn set(&mut self, section: Section, value: &str) {
        let ours = |(at, found, line): (usize, Section, &str)| {
            let key = assignment(line).map(|(key, _)| key);
            (found == section && key == Some(BOOT_PARTITION)).then_some(at)
        };
        let end = self.line_end();
        let line = format!("{BOOT_PARTITION}={value}{end}");
        if let Some(at) = self.sections().filter_map(ours).last() {
            if assignment(&self.lines[at]).map(|(_, old)| old) != Some(value) {
                self.lines[at] = line;
            }
            return;
        }
        // whatever is put behind the last line must not become a part of it
        if let Some(last) = self.lines.last_mut()
            && !last.ends_with('\n')
        {
            last.push_str(end);
        }
        let header = self
            .lines
            .iter()
            .position(|line| Section::header(line) == Some(section));
        match (header, section) {
            (Some(header), _) => self.lines.insert(header + 1, line),
            // what stands before the first header counts always
            (None, Section::All) => self.lines.insert(0, line),
            (None, _) => {
                self.lines.push(format!("[tryboot]{end}"));
                self.lines.push(line);
            }
        }
    }

    fn line_end(&self) -> &'static str {
        let dos = self
            .lines
            .first()
            .is_some_and(|line| line.ends_with("\r\n"));
        if dos { "\r\n" } else { "\n" }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.lines.concat().into_bytes()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Autoboot {
        Autoboot::parse(text.as_bytes()).unwrap()
    }

    fn changed(text: &str, default: u32, tried: u32) -> String {
        let changed = parsed(text).with_partitions(default, tried).unwrap();
        String::from_utf8(changed.bytes()).unwrap()
    }

    #[test]
    fn the_last_line_that_counts_wins() {
        let text = "boot_partition=9\n[none]\nboot_partition=8\n[all]\n# boot_partition=7\n boot_partition = 2 \ntryboot_a_b=1\n[tryboot]\nboot_partition=3\n";
        let autoboot = parsed(text);
        assert_eq!(autoboot.partition(false), Some(2));
        assert_eq!(autoboot.partition(true), Some(3));
        assert_eq!(autoboot.get(TRYBOOT_A_B, true), Some("1"));
        let reversed = parsed("[tryboot]\nboot_partition=3\n[all]\nboot_partition=2\n");
        assert_eq!(reversed.partition(true), Some(2));
        assert!(
            reversed
                .with_partitions(2, 3)
                .unwrap_err()
                .contains("behind [all]")
        );
        assert_eq!(parsed("").partition(false), None);
        assert_eq!(parsed("boot_partition=x").partition(false), None);
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let text = "# mine\r\n[all]\r\ntryboot_a_b=1\r\nboot_partition=2\r\n[tryboot]\r\nboot_partition=3\r\n# end";
        assert_eq!(
            changed(text, 3, 2),
            "# mine\r\n[all]\r\ntryboot_a_b=1\r\nboot_partition=3\r\n[tryboot]\r\nboot_partition=2\r\n# end"
        );
        assert_eq!(changed(text, 2, 3), text);
        assert_eq!(
            changed("tryboot_a_b=1", 2, 3),
            "boot_partition=2\ntryboot_a_b=1\n[tryboot]\nboot_partition=3\n"
        );
        assert_eq!(
            changed("[tryboot]\n", 2, 3),
            "boot_partition=2\n[tryboot]\nboot_partition=3\n"
        );
    }

    #[test]
    fn what_the_firmware_would_misread_is_refused() {
        assert!(Autoboot::parse(&[b'#'; 513]).unwrap_err().contains("513"));
        assert!(Autoboot::parse(&[0; 40]).unwrap_err().contains("zero"));
        assert!(Autoboot::parse(&[0xFF]).unwrap_err().contains("no text"));
        let full = format!("#{}\n", "x".repeat(500));
        assert!(
            parsed(&full)
                .with_partitions(2, 3)
                .unwrap_err()
                .contains("512")
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_what_the_firmware_reads(text in "(\\[all\\]|\\[tryboot\\]|\\[none\\]|boot_partition=[0-9]|tryboot_a_b=1|#x|\n){0,20}", default in 1u32..9, tried in 1u32..9) {
            if let Ok(changed) = parsed(&text).with_partitions(default, tried) {
                let read = Autoboot::parse(&changed.bytes()).unwrap();
                proptest::prop_assert_eq!((read.partition(false), read.partition(true)), (Some(default), Some(tried)));
            }
        }
    }
}
