//! systemd-boot with boot counting: an entry for each slot on the EFI system partition.
//!
//! `loader.conf` has a pattern (`default ambidex-*`), of which systemd-boot takes the first entry in its
//! order: those with boots left or without counting before the others, then the higher `version`. So the
//! choice is made by the entries alone:
//!
//! - a trial is the other slot's entry with the highest version and one boot left (`ambidex-b+1.conf`);
//!   systemd-boot renames it to `+0-1` before it starts it, and then it is the last in order,
//! - a commit is the same entry without the counter,
//! - the way back is the same entry without any boots left.
//!
//! A plain `default ambidex-b.conf` would not do: an entry that is named exactly is started again and
//! again, whatever its counter. Variables of the firmware are read, never written: not every firmware
//! keeps them, and a file is written atomically.

use std::path::PathBuf;

use ambidex_platform::fs::{self, Context};

use super::entry::{Entry, Name, PREFIX, matches};
use super::steps::{Step, carry_out};
use super::{Board, BootConfig, BootError, Finding, Side, SlotLoader, State};

const NAME: &str = "systemd-boot";
/// The loader's own variables.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The EFI system partition.
#[derive(Debug, Clone)]
pub struct SystemdBoot {
    esp: PathBuf,
    efivars: PathBuf,
}

/// The entries of the slots in the order in which systemd-boot takes them; never empty of both slots.
struct Entries {
    dir: PathBuf,
    ordered: Vec<Entry>,
}

impl Entries {
    /// The entry that is or was booted: of several, which a power cut may leave, the newest.
    fn of(&self, side: Side) -> Option<&Entry> {
        self.ordered
            .iter()
            .filter(|entry| entry.name.side == side)
            .max_by_key(|entry| {
                let rank = match entry.name.tries {
                    None => 2,
                    Some((0, 0)) => 1,
                    Some(_) => 0,
                };
                (entry.version(), rank)
            })
    }

    fn need(&self, side: Side) -> Result<&Entry, BootError> {
        self.of(side).ok_or_else(|| {
            BootError::Configuration(format!(
                "{} has no entry {PREFIX}{}.conf; create it as board-support/systemd-boot shows",
                self.dir.display(),
                side.letter()
            ))
        })
    }

    fn next(&self) -> Option<&Entry> {
        self.ordered.first()
    }

    fn highest(&self) -> u64 {
        self.ordered.iter().map(Entry::version).max().unwrap_or(0)
    }

    /// Puts one entry in the place of all that the slot has.
    fn place(
        &self,
        side: Side,
        tries: Option<(u32, u32)>,
        version: u64,
    ) -> Result<Vec<Step>, BootError> {
        let text = self.need(side)?.with_version(version);
        let name = Name { side, tries }.text();
        let mut steps = vec![Step::Replace {
            path: self.dir.join(&name),
            bytes: text.into_bytes(),
        }];
        let others = self.ordered.iter().filter(|entry| {
            entry.name.side == side && !entry.file_name.eq_ignore_ascii_case(&name)
        });
        steps.extend(others.map(|entry| Step::Remove {
            path: self.dir.join(&entry.file_name),
        }));
        Ok(steps)
    }
}

impl SystemdBoot {
    /// Names the places; touches no file.
    #[must_use]
    pub fn open(config: &BootConfig) -> Self {
        Self {
            esp: config.esp.clone(),
            efivars: config.efivars.clone(),
        }
    }

    pub(super) fn is_present(config: &BootConfig) -> bool {
        Self::open(config).entries().is_ok_and(|entries| {
            Side::BOTH
                .into_iter()
                .all(|side| entries.of(side).is_some())
        })
    }

    fn entries(&self) -> Result<Entries, BootError> {
        let dir = self.esp.join("loader/entries");
        let mut ordered = Vec::new();
        for found in std::fs::read_dir(&dir).context("list", &dir)? {
            let found = found.context("list", &dir)?;
            let Some(file_name) = found.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if let Some(name) = Name::parse(&file_name) {
                let bytes = fs::read_bounded(&found.path(), FILE_BYTES_MAX)?;
                ordered.push(Entry {
                    name,
                    file_name,
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                });
            }
        }
        ordered.sort_by_key(Entry::order);
        Ok(Entries { dir, ordered })
    }

    /// A variable of the loader, as text.
    fn variable(&self, name: &str) -> Option<String> {
        let path = self.efivars.join(format!("{name}-{VENDOR}"));
        let bytes = fs::read_if_present(&path, 4096).ok()??;
        let units: Vec<u16> = bytes
            .get(4..)?
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .take_while(|unit| *unit != 0)
            .collect();
        Some(String::from_utf16_lossy(&units))
    }

    fn selected(&self) -> Option<Side> {
        Name::parse(&self.variable("LoaderEntrySelected")?).map(|name| name.side)
    }

    /// Why the choice would not be made by the order of the entries.
    fn complaints(&self) -> Vec<String> {
        let path = self.esp.join("loader/loader.conf");
        let takes_both = |pattern: &str| {
            Side::BOTH.into_iter().all(|side| {
                let name = Name { side, tries: None }.text();
                matches(pattern.as_bytes(), name.as_bytes())
            })
        };
        let mut found = Vec::new();
        let text = fs::read_if_present(&path, FILE_BYTES_MAX)
            .ok()
            .flatten()
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let default = text
            .lines()
            .filter_map(|line| line.trim().split_once([' ', '\t']))
            .rfind(|(key, _)| *key == "default")
            .map(|(_, value)| value.trim());
        match default {
            None => found.push(format!(
                "{} lacks the line \"default {PREFIX}*\"",
                path.display()
            )),
            Some(pattern) if !takes_both(pattern) => found.push(format!(
                "{} has \"default {pattern}\", which does not take the entries of both slots: write \"default {PREFIX}*\"",
                path.display()
            )),
            Some(_) => {}
        }
        if let Some(pattern) = self.variable("LoaderEntryDefault")
            && !takes_both(&pattern)
        {
            found.push(format!(
                "the firmware has LoaderEntryDefault={pattern}, which overrides loader.conf: bootctl set-default \"\""
            ));
        }
        found
    }

    /// What is wrong with the entries.
    fn entry_findings(&self, entries: &Entries) -> Vec<Finding> {
        let mut findings = Vec::new();
        for side in Side::BOTH {
            let entry = match entries.need(side) {
                Ok(entry) => entry,
                Err(error) => {
                    findings.push(Finding::bad(error.to_string()));
                    continue;
                }
            };
            let name = &entry.file_name;
            let before = findings.len();
            if entry.field("sort-key").is_none() {
                findings.push(Finding::bad(format!(
                    "{name} has no sort-key: without it the version does not count; give both the same"
                )));
            }
            if entry
                .field("version")
                .is_none_or(|v| v.parse::<u64>().is_err())
            {
                findings.push(Finding::bad(format!(
                    "{name} has no version that is a number; begin with 1 for the slot that runs, 0 for the other"
                )));
            }
            let image = entry.field("linux").or_else(|| entry.field("efi"));
            for file in image.into_iter().chain(entry.field("initrd")) {
                if !self.esp.join(file.trim_start_matches('/')).is_file() {
                    findings.push(Finding::bad(format!(
                        "{name} names {file}, which is not on the partition"
                    )));
                }
            }
            if image.is_none() {
                findings.push(Finding::bad(format!(
                    "{name} names no kernel: linux or efi"
                )));
            }
            if findings.len() == before {
                findings.push(Finding::good(format!("{name} is complete")));
            }
        }
        let pair = Side::BOTH.map(|side| entries.of(side));
        if let [Some(a), Some(b)] = pair {
            for key in ["sort-key", "machine-id"] {
                if a.field(key) != b.field(key) {
                    findings.push(Finding::bad(format!(
                        "the entries differ in {key}: then their versions are not compared"
                    )));
                }
            }
        }
        findings
    }
}

impl SlotLoader for SystemdBoot {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn state(&self, running: Option<Side>) -> Result<State, BootError> {
        let entries = self.entries()?;
        let next = entries.next();
        let counted = |entry: &Entry| matches!(entry.name.tries, Some((1.., _)));
        let booted = self.selected().or(running);
        let (side, trial) = match booted.and_then(|side| entries.of(side)) {
            // of this boot nothing is known: what the next one will be
            None => (next.map(|entry| entry.name.side), next.is_some_and(counted)),
            Some(mine) if mine.name.tries.is_none() || mine.is_given_up() => {
                let next = next.unwrap_or(mine);
                let elsewhere = next.name.side != mine.name.side;
                (Some(next.name.side), elsewhere && counted(next))
            }
            Some(mine) => (Some(mine.name.side), true),
        };
        Ok(State {
            side,
            trial,
            says: format!(
                "next is {}; booted {}",
                next.map_or("nothing", |entry| entry.file_name.as_str()),
                booted.map_or("(not told)", Side::letter),
            ),
            obstacle: self.complaints().into_iter().next(),
        })
    }

    async fn try_next(&self, side: Side) -> Result<(), BootError> {
        let entries = self.entries()?;
        let stays = entries.need(side.other())?;
        if stays.name.tries.is_some() {
            return Err(BootError::Configuration(format!(
                "{} is itself on trial or given up: without a good entry to return to nothing is tried",
                stays.file_name
            )));
        }
        let steps = entries.place(side, Some((1, 0)), entries.highest() + 1)?;
        Ok(carry_out(&steps)?)
    }

    async fn commit(&self, side: Side) -> Result<(), BootError> {
        let entries = self.entries()?;
        Ok(carry_out(&committed(&entries, side)?)?)
    }

    async fn go_back(&self, side: Side) -> Result<(), BootError> {
        let entries = self.entries()?;
        Ok(carry_out(&returned(&entries, side)?)?)
    }

    async fn check(&self, board: &Board<'_>) -> Vec<Finding> {
        let mut findings = vec![board.fat(&self.esp, "esp")];
        let complaints = self.complaints();
        if complaints.is_empty() {
            findings.push(Finding::good(
                "loader.conf leaves the choice to the entries",
            ));
        }
        findings.extend(complaints.into_iter().map(Finding::bad));
        match self.entries() {
            Err(error) => findings.push(Finding::bad(format!("the boot entries: {error}"))),
            Ok(entries) => findings.extend(self.entry_findings(&entries)),
        }
        findings.push(match self.variable("LoaderEntrySelected") {
            Some(entry) => match Name::parse(&entry) {
                Some(_) => Finding::good(format!("systemd-boot has booted {entry}")),
                None => Finding::bad(format!(
                    "systemd-boot has booted {entry}, which is the entry of neither slot"
                )),
            },
            None => Finding::good(
                "the firmware does not tell which entry was booted; the running slot is taken from the kernel",
            ),
        });
        findings
    }
}

/// The steps that make the slot the one to boot.
fn committed(entries: &Entries, side: Side) -> Result<Vec<Step>, BootError> {
    let mine = entries.need(side)?;
    let beside = entries.of(side.other()).map_or(0, Entry::version);
    let version = if mine.version() > beside {
        mine.version()
    } else {
        beside + 1
    };
    entries.place(side, None, version)
}

/// The steps that end a trial: first what is booted again must be good, then the other gives up.
fn returned(entries: &Entries, side: Side) -> Result<Vec<Step>, BootError> {
    let mine = entries.need(side)?;
    let mut steps = Vec::new();
    if mine.name.tries.is_some() {
        steps = entries.place(side, None, mine.version())?;
    }
    if let Some(other) = entries.of(side.other())
        && !other.is_given_up()
        && (other.name.tries.is_some() || other.version() >= mine.version())
    {
        steps.extend(entries.place(side.other(), Some((0, 0)), other.version())?);
    }
    Ok(steps)
}

#[cfg(test)]
#[path = "systemd_boot_tests.rs"]
mod tests;
