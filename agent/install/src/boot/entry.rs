//! Boot entries of the Boot Loader Specification for the two slots, with boot counting in their names:
//! `ambidex-a.conf`, `ambidex-b+1.conf` (one boot left), `ambidex-b+0-1.conf` (none left, one done).
//! Pure.

use std::cmp::Reverse;

use super::Side;

/// Entries are named `ambidex-a` and `ambidex-b`.
pub(super) const PREFIX: &str = "ambidex-";

/// What the name of an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub side: Side,
    /// Boots left and boots done; `None` without counting.
    pub tries: Option<(u32, u32)>,
}

impl Name {
    /// `None` when it is the entry of something else. FAT does not tell capitals apart.
    pub(super) fn parse(file_name: &str) -> Option<Self> {
        let lower = file_name.to_ascii_lowercase();
        let stem = lower.strip_suffix(".conf")?.strip_prefix(PREFIX)?;
        let (letter, tries) = match stem.split_once('+') {
            None => (stem, None),
            Some((letter, tries)) => {
                let (left, done) = tries.split_once('-').unwrap_or((tries, "0"));
                (letter, Some((number(left)?, number(done)?)))
            }
        };
        let side = Side::BOTH
            .into_iter()
            .find(|side| side.letter() == letter)?;
        Some(Self { side, tries })
    }

    pub(super) fn text(self) -> String {
        let letter = self.side.letter();
        match self.tries {
            None => format!("{PREFIX}{letter}.conf"),
            Some((left, 0)) => format!("{PREFIX}{letter}+{left}.conf"),
            Some((left, done)) => format!("{PREFIX}{letter}+{left}-{done}.conf"),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A file of `loader/entries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: Name,
    /// As it is spelled on the disk.
    pub file_name: String,
    pub text: String,
}

impl Entry {
    /// The value behind a key.
    pub(super) fn field(&self, key: &str) -> Option<&str> {
        self.text
            .lines()
            .filter_map(|line| line.trim().split_once([' ', '\t']))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim())
    }

    /// 0 without one: the order among entries that are good.
    pub(super) fn version(&self) -> u64 {
        self.field("version")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    /// The text with another version.
    pub(super) fn with_version(&self, version: u64) -> String {
        let mut lines: Vec<String> = self
            .text
            .lines()
            .filter(|line| line.split_whitespace().next() != Some("version"))
            .map(str::to_owned)
            .collect();
        lines.push(format!("version {version}\n"));
        lines.join("\n")
    }

    /// Sorts as systemd-boot does, first what it boots: entries with no boots left come last, then the
    /// higher version counts, then the name.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let exhausted = matches!(self.name.tries, Some((0, _)));
        (
            exhausted,
            Reverse(self.version()),
            Reverse(self.name.side),
            self.name.tries.map(|(left, done)| (Reverse(left), done)),
        )
    }

    /// A trial that was given up before or after its boot.
    pub(super) fn is_given_up(&self) -> bool {
        self.name.tries == Some((0, 0))
    }
}

/// Whether a pattern of `loader.conf` takes a name: `*` and `?`.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        (Some((b'?', pattern)), Some((_, name))) => matches(pattern, name),
        (Some((wanted, pattern)), Some((found, name))) => {
            wanted.eq_ignore_ascii_case(found) && matches(pattern, name)
        }
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn names_carry_slot_and_counters() {
        for (text, side, tries) in [
            ("ambidex-a.conf", Side::A, None),
            ("ambidex-b+1.conf", Side::B, Some((1, 0))),
            ("ambidex-b+0-1.conf", Side::B, Some((0, 1))),
            ("ambidex-a+12-3.conf", Side::A, Some((12, 3))),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!((name.side, name.tries), (side, tries), "{text}");
            assert_eq!(name.text(), text);
        }
        assert_eq!(Name::parse("AMBIDEX-A.CONF").unwrap().side, Side::A);
        for text in [
            "debian.conf",
            "ambidex-c.conf",
            "ambidex-a.conf.tmp",
            "ambidex-a+.conf",
            "ambidex-a+x.conf",
            "ambidex-a+1-.conf",
            "ambidex-a++1.conf",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_version_changes_and_nothing_else() {
        let entry = Entry {
            name: Name::parse("ambidex-a.conf").unwrap(),
            file_name: "ambidex-a.conf".to_owned(),
            text: "title A\nversion\t7\nlinux /a/vmlinuz\noptions root=LABEL=version 5\n"
                .to_owned(),
        };
        assert_eq!(entry.version(), 7);
        assert_eq!(entry.field("options"), Some("root=LABEL=version 5"));
        assert_eq!(
            entry.with_version(8),
            "title A\nlinux /a/vmlinuz\noptions root=LABEL=version 5\nversion 8\n"
        );
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        let is = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        assert!(
            is("ambidex-*", "ambidex-a.conf")
                && is("*", "x")
                && is("AMBIDEX-?.conf", "ambidex-a.conf")
        );
        assert!(
            !is("ambidex-a.conf", "ambidex-b.conf")
                && !is("ambidex", "ambidex-a.conf")
                && !is("", "x")
        );
    }

    proptest::proptest! {
        #[test]
        fn parsing_any_name_never_panics(text in "(ambidex-)?[ab]?\\PC{0,20}(\\.conf)?") {
            let _ = Name::parse(&text);
        }
    }
}
