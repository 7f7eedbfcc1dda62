//! systemd-boot is played here: [`Machine::power_on`] sorts, chooses and renames as its sources do.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::boot::steps::cut_everywhere;

struct Machine {
    dir: tempfile::TempDir,
    loader: SystemdBoot,
    /// Slots that do not come up: a watchdog restarts them.
    dead: BTreeSet<char>,
}

fn entry(letter: char, version: u32) -> String {
    format!(
        "title Slot {letter}\nsort-key ambidex\nversion {version}\nlinux /ambidex/{letter}/vmlinuz\noptions root=PARTLABEL=rootfs-{letter}\n"
    )
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn letter(side: Side) -> char {
    side.letter().chars().next().unwrap()
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in [
            "esp/loader/entries",
            "esp/ambidex/a",
            "esp/ambidex/b",
            "efivars",
        ] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        std::fs::write(
            path("esp/loader/loader.conf"),
            "timeout 0\ndefault ambidex-*\n",
        )
        .unwrap();
        for (letter, version) in [('a', 1), ('b', 0)] {
            let name = format!("esp/loader/entries/ambidex-{letter}.conf");
            std::fs::write(path(&name), entry(letter, version)).unwrap();
            std::fs::write(path(&format!("esp/ambidex/{letter}/vmlinuz")), "").unwrap();
        }
        let loader = SystemdBoot::open(&BootConfig {
            esp: path("esp"),
            efivars: path("efivars"),
            ..BootConfig::default()
        });
        let mut machine = Self {
            dir,
            loader,
            dead: BTreeSet::new(),
        };
        assert_eq!(machine.power_on(), Side::A);
        machine
    }

    /// The same disk, to try something on.
    fn copy(&self) -> Self {
        let mut copy = Self::new();
        for part in ["esp/loader/entries", "efivars"] {
            let to = copy.dir.path().join(part);
            fs::clear_dir(&to).unwrap();
            for file in std::fs::read_dir(self.dir.path().join(part)).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        copy.dead.clone_from(&self.dead);
        copy
    }

    fn entries(&self) -> Vec<String> {
        let dir = self.dir.path().join("esp/loader/entries");
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".conf"))
            .collect();
        names.sort();
        names
    }

    /// Chooses an entry, counts, and starts it, until one comes up.
    fn power_on(&mut self) -> Side {
        let dir = self.dir.path().join("esp/loader/entries");
        for _ in 0..5 {
            let mut known = Vec::new();
            for name in self.entries() {
                let stem = name.strip_suffix(".conf").unwrap();
                let (id, tries) = stem.split_once('+').map_or((stem, None), |(id, tries)| {
                    let (left, done) = tries.split_once('-').unwrap_or((tries, "0"));
                    (
                        id,
                        Some([left, done].map(|text| text.parse::<u32>().unwrap())),
                    )
                });
                let text = std::fs::read_to_string(dir.join(&name)).unwrap();
                let version: u32 = text
                    .lines()
                    .find_map(|line| line.strip_prefix("version "))
                    .unwrap()
                    .parse()
                    .unwrap();
                let exhausted = tries.is_some_and(|[left, _]| left == 0);
                known.push((
                    exhausted,
                    u32::MAX - version,
                    id.to_owned(),
                    tries,
                    name.clone(),
                ));
            }
            known.sort_by(|x, y| (x.0, x.1).cmp(&(y.0, y.1)).then(y.2.cmp(&x.2)));
            let (_, _, id, tries, name) = known.first().cloned().unwrap();
            assert!(id.starts_with("ambidex-"), "the pattern of loader.conf");
            if let Some([left, done]) = tries {
                let next = format!("{id}+{}-{}.conf", left.saturating_sub(1), done + 1);
                std::fs::rename(dir.join(&name), dir.join(next)).unwrap();
            }
            let booted = id.chars().last().unwrap();
            if self.dead.contains(&booted) {
                continue;
            }
            self.tell(&format!("{id}.conf"));
            return if booted == 'a' { Side::A } else { Side::B };
        }
        panic!("nothing comes up: {:?}", self.entries());
    }

    fn tell(&self, entry: &str) {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(entry.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        let path = self
            .dir
            .path()
            .join(format!("efivars/LoaderEntrySelected-{VENDOR}"));
        std::fs::write(path, bytes).unwrap();
    }

    fn state(&self) -> (Option<Side>, bool) {
        let state = blocking(self.loader.state(None)).unwrap();
        assert_eq!(state.obstacle, None);
        (state.side, state.trial)
    }

    fn complaints(&self) -> String {
        let file_system = |_: &Path| Some("vfat".to_owned());
        let board = Board {
            slots: None,
            reboot_command: &[],
            file_system: &file_system,
        };
        blocking(self.loader.check(&board))
            .into_iter()
            .filter(|finding| !finding.good)
            .map(|finding| finding.text + "\n")
            .collect()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join("esp/loader").join(name), text).unwrap();
    }
}

#[test]
fn a_trial_is_counted_once_and_committed_by_its_name() {
    let mut machine = Machine::new();
    for side in [Side::B, Side::A, Side::B] {
        assert_eq!(machine.state(), (Some(side.other()), false));
        blocking(machine.loader.try_next(side)).unwrap();
        assert_eq!(machine.state(), (Some(side), true));
        assert_eq!(machine.power_on(), side);
        assert_eq!(machine.state(), (Some(side), true), "on trial");
        blocking(machine.loader.commit(side)).unwrap();
        assert_eq!(machine.state(), (Some(side), false));
        assert_eq!(machine.entries(), ["ambidex-a.conf", "ambidex-b.conf"]);
        for _ in 0..3 {
            assert_eq!(machine.power_on(), side, "for good");
        }
    }
}

#[test]
fn a_trial_that_dies_is_followed_by_the_slot_before() {
    let mut machine = Machine::new();
    blocking(machine.loader.try_next(Side::B)).unwrap();
    machine.dead.insert('b');
    assert_eq!(machine.power_on(), Side::A);
    assert_eq!(machine.state(), (Some(Side::A), false));
    assert_eq!(machine.power_on(), Side::A);
    // and the next update may use the slot again
    machine.dead.clear();
    blocking(machine.loader.go_back(Side::A)).unwrap();
    blocking(machine.loader.try_next(Side::B)).unwrap();
    assert_eq!(machine.power_on(), Side::B);
    assert_eq!(machine.power_on(), Side::A, "not committed");
}

#[test]
fn going_back_holds_before_and_during_the_trial() {
    let mut machine = Machine::new();
    blocking(machine.loader.try_next(Side::B)).unwrap();
    blocking(machine.loader.go_back(Side::A)).unwrap();
    assert_eq!(machine.state(), (Some(Side::A), false));
    assert_eq!(machine.power_on(), Side::A);
    blocking(machine.loader.try_next(Side::B)).unwrap();
    assert_eq!(machine.power_on(), Side::B);
    blocking(machine.loader.go_back(Side::A)).unwrap();
    assert_eq!(
        machine.state(),
        (Some(Side::A), false),
        "awaits the restart"
    );
    assert_eq!(machine.power_on(), Side::A);
    assert_eq!(machine.state(), (Some(Side::A), false));
}

#[test]
fn without_the_firmwares_word_the_kernels_counts() {
    let mut machine = Machine::new();
    blocking(machine.loader.try_next(Side::B)).unwrap();
    machine.power_on();
    fs::clear_dir(&machine.dir.path().join("efivars")).unwrap();
    let state = |running| blocking(machine.loader.state(running)).unwrap();
    assert_eq!(
        (state(Some(Side::B)).side, state(Some(Side::B)).trial),
        (Some(Side::B), true)
    );
    assert_eq!(
        (state(Some(Side::A)).side, state(Some(Side::A)).trial),
        (Some(Side::A), false)
    );
}

#[test]
fn nothing_is_tried_without_a_good_entry_to_return_to() {
    let mut machine = Machine::new();
    blocking(machine.loader.try_next(Side::B)).unwrap();
    machine.power_on();
    let error = blocking(machine.loader.try_next(Side::A))
        .unwrap_err()
        .to_string();
    assert!(error.contains("ambidex-b+0-1.conf"), "{error}");
}

/// The steps that each call would take, and the slots from which it is called.
fn power_cuts(running: Side, dies: bool, cuts: &mut usize) {
    let new = running.other();
    let mut machine = Machine::new();
    if running == Side::B {
        blocking(machine.loader.try_next(Side::B)).unwrap();
        machine.power_on();
        blocking(machine.loader.commit(Side::B)).unwrap();
        assert_eq!(machine.power_on(), Side::B);
    }
    let entries = machine.loader.entries().unwrap();
    let tried = entries
        .place(new, Some((1, 0)), entries.highest() + 1)
        .unwrap();
    if dies {
        machine.dead.insert(letter(new));
    }
    cut_everywhere(&tried, |at| {
        *cuts += 1;
        let mut copy = machine.copy();
        let booted = copy.power_on();
        if dies {
            assert_eq!(booted, running, "try, {at}");
        }
        // uncommitted, it is the old slot's turn at the second start
        assert_eq!(copy.power_on(), running, "try, {at}");
        assert_eq!(copy.state(), (Some(running), false), "try, {at}");
        // and the agent may do it over
        copy.dead.clear();
        blocking(copy.loader.try_next(new)).unwrap();
        assert_eq!(copy.power_on(), new, "try again, {at}");
    });
    let back = returned(&machine.loader.entries().unwrap(), running).unwrap();
    let mut before = machine.copy();
    cut_everywhere(&back, |at| {
        *cuts += 1;
        let mut copy = machine.copy();
        copy.power_on();
        assert_eq!(copy.power_on(), running, "back before the trial, {at}");
    });
    assert_eq!(machine.power_on(), running);
    if dies {
        return;
    }
    // on trial
    assert_eq!(before.power_on(), new);
    let mut machine = before;
    let during = machine.copy();
    let back = returned(&machine.loader.entries().unwrap(), running).unwrap();
    cut_everywhere(&back, |at| {
        *cuts += 1;
        assert_eq!(
            machine.copy().power_on(),
            running,
            "back in the trial, {at}"
        );
    });
    assert_eq!(machine.state(), (Some(running), false));
    machine = during;
    let steps = committed(&machine.loader.entries().unwrap(), new).unwrap();
    let mut taken = false;
    cut_everywhere(&steps, |at| {
        *cuts += 1;
        let mut copy = machine.copy();
        let booted = copy.power_on();
        taken |= booted == new;
        // both slots are good here; once the new one is taken, it is for good
        assert_eq!(booted, if taken { new } else { running }, "commit, {at}");
        assert_eq!(copy.power_on(), booted, "commit, {at}");
        if at.contains("both names") {
            taken = false;
        }
        if booted == new {
            assert_eq!(copy.state(), (Some(new), false), "commit, {at}");
        }
    });
    assert!(taken);
}

/// Every prefix of the file operations of each call, and three lengths of each fresh file, from either
/// slot, with a new system that comes up and one that does not.
#[test]
fn a_power_cut_at_any_file_operation_leaves_a_good_slot_to_boot() {
    let mut cuts = 0;
    for running in Side::BOTH {
        for dies in [false, true] {
            power_cuts(running, dies, &mut cuts);
        }
    }
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn the_self_test_names_each_mistake_of_the_integration() {
    let machine = Machine::new();
    assert_eq!(machine.complaints(), "");
    let wrong = |file: &str, text: &str, wanted: &str| {
        let path = machine.dir.path().join("esp/loader").join(file);
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        let found = machine.complaints();
        assert!(found.contains(wanted), "{text:?}: {found}");
        std::fs::write(&path, before).unwrap();
    };
    wrong("loader.conf", "timeout 3\n", "lacks the line");
    wrong(
        "loader.conf",
        "default ambidex-a.conf\n",
        "does not take the entries of both",
    );
    let b = "entries/ambidex-b.conf";
    let good = entry('b', 0);
    wrong(b, &good.replace("sort-key ambidex\n", ""), "no sort-key");
    wrong(
        b,
        &good.replace("sort-key ambidex", "sort-key other"),
        "differ in sort-key",
    );
    wrong(b, &format!("machine-id 1\n{good}"), "differ in machine-id");
    wrong(b, &good.replace("version 0\n", ""), "no version");
    wrong(
        b,
        &good.replace("vmlinuz", "bzImage"),
        "/ambidex/b/bzImage, which is not",
    );
    wrong(b, &good.replace("linux", "lunix"), "names no kernel");
    std::fs::remove_file(machine.dir.path().join("esp/loader").join(b)).unwrap();
    assert!(machine.complaints().contains("no entry ambidex-b.conf"));
    machine.write(b, &good);
    machine.tell("debian.conf");
    assert!(
        machine
            .complaints()
            .contains("debian.conf, which is the entry of neither")
    );
    let mut bytes = vec![7, 0, 0, 0];
    bytes.extend("ambidex-a.conf".encode_utf16().flat_map(u16::to_le_bytes));
    let variable = format!("efivars/LoaderEntryDefault-{VENDOR}");
    std::fs::write(machine.dir.path().join(variable), bytes).unwrap();
    assert!(machine.complaints().contains("overrides loader.conf"));
    fs::remove_tree(&machine.dir.path().join("esp/loader/loader.conf")).unwrap();
    let state = blocking(machine.loader.state(Some(Side::A))).unwrap();
    assert!(state.obstacle.unwrap().contains("lacks the line"));
}
