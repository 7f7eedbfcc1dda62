//! The firmware is played here: [`Pi::power_on`] chooses as the documentation of the Raspberry Pi says.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use super::*;
use crate::boot::steps::cut_everywhere;

struct Pi {
    dir: tempfile::TempDir,
    loader: Tryboot,
}

const GOOD: &str =
    "# the image's own\n[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";

impl Pi {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["auto", "firmware", "run"] {
            std::fs::create_dir(path(folder)).unwrap();
        }
        let loader = Tryboot::open(&BootConfig {
            autoboot_dir: path("auto"),
            firmware_dir: path("firmware"),
            armed_file: path("run/armed"),
            ..BootConfig::default()
        });
        std::fs::write(path("auto/autoboot.txt"), GOOD).unwrap();
        let mut pi = Self { dir, loader };
        pi.power_on(false);
        pi
    }

    /// Own reading of the file, so that a mistake in ours is not repeated.
    fn firmware_reads(&self, flag: bool) -> u32 {
        let text = std::fs::read_to_string(self.dir.path().join("auto/autoboot.txt")).unwrap();
        assert!(text.len() <= 512);
        let (mut applies, mut partition, mut a_b) = (true, 0, false);
        for line in text.lines() {
            match line.trim() {
                "[all]" => applies = true,
                "[tryboot]" => applies = flag,
                "[none]" => applies = false,
                "tryboot_a_b=1" if applies => a_b = true,
                line if applies && line.starts_with("boot_partition=") => {
                    partition = line.split_once('=').unwrap().1.parse().unwrap();
                }
                _ => {}
            }
        }
        assert!(a_b, "tryboot.txt would be looked for");
        partition
    }

    /// The memory is lost, the flag counts once.
    fn power_on(&mut self, flag: bool) -> Side {
        let partition = self.firmware_reads(flag);
        let path = |name: &str| self.dir.path().join(name);
        let _ = std::fs::remove_file(path("run/armed"));
        std::fs::write(path("firmware/partition"), partition.to_be_bytes()).unwrap();
        std::fs::write(path("firmware/tryboot"), u32::from(flag).to_be_bytes()).unwrap();
        Side::at(&[2, 3], &partition).unwrap()
    }

    /// The restart that the loader asks for.
    fn restart(&mut self) -> Side {
        let flag = self.loader.reboot_argument() == Some("0 tryboot");
        self.power_on(flag)
    }

    async fn state(&self) -> (Option<Side>, bool) {
        let state = self.loader.state(None).await.unwrap();
        assert_eq!(state.obstacle, None);
        (state.side, state.trial)
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("auto/autoboot.txt")).unwrap()
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("auto/autoboot.txt"), text).unwrap();
    }
}

#[tokio::test]
async fn a_trial_boots_once_and_is_committed_by_one_file() {
    let mut pi = Pi::new();
    for side in [Side::B, Side::A, Side::B] {
        assert_eq!(pi.state().await, (Some(side.other()), false));
        assert_eq!(pi.loader.reboot_argument(), None);
        pi.loader.try_next(side).await.unwrap();
        assert_eq!(pi.state().await, (Some(side), true));
        assert_eq!(pi.restart(), side);
        assert_eq!(pi.state().await, (Some(side), true), "on trial");
        assert_eq!(pi.loader.reboot_argument(), None);
        pi.loader.commit(side).await.unwrap();
        assert_eq!(pi.state().await, (Some(side), false));
        assert_eq!(pi.restart(), side, "for good");
        assert!(pi.file().starts_with("# the image's own\n"));
    }
}

#[tokio::test]
async fn a_trial_that_dies_is_followed_by_the_slot_before() {
    let mut pi = Pi::new();
    pi.loader.try_next(Side::B).await.unwrap();
    assert_eq!(pi.restart(), Side::B);
    assert_eq!(
        pi.power_on(false),
        Side::A,
        "a watchdog, a panic, a power cut"
    );
    assert_eq!(pi.state().await, (Some(Side::A), false));
    // a power cut before the restart: there was no trial, and none is pending
    pi.loader.try_next(Side::B).await.unwrap();
    assert_eq!(pi.power_on(false), Side::A);
    assert_eq!(pi.state().await, (Some(Side::A), false));
}

#[tokio::test]
async fn going_back_needs_no_argument_before_and_during_the_trial() {
    let mut pi = Pi::new();
    pi.loader.try_next(Side::B).await.unwrap();
    pi.loader.go_back(Side::A).await.unwrap();
    assert_eq!(pi.state().await, (Some(Side::A), false));
    assert_eq!(pi.restart(), Side::A);
    pi.loader.try_next(Side::B).await.unwrap();
    assert_eq!(pi.restart(), Side::B);
    pi.loader.go_back(Side::A).await.unwrap();
    assert_eq!(pi.restart(), Side::A);
    assert_eq!(pi.state().await, (Some(Side::A), false));
}

/// From every slot: the power is cut behind each file operation of each call, and at three lengths of a
/// fresh file; the firmware must find the slot before, or, once committed, the new one for good.
#[tokio::test]
async fn a_power_cut_at_any_file_operation_leaves_a_good_slot_to_boot() {
    let mut cuts = 0;
    for running in Side::BOTH {
        let new = running.other();
        let mut pi = Pi::new();
        if running == Side::B {
            pi.loader.commit(Side::B).await.unwrap();
            pi.power_on(false);
        }
        let steps = pi.loader.plan(running).unwrap();
        cut_everywhere(&steps, |at| {
            assert_eq!(pi.firmware_reads(false), *running.of(&[2, 3]), "try, {at}");
            cuts += 1;
        });
        pi.loader.try_next(new).await.unwrap();
        assert_eq!(pi.restart(), new);
        let steps = pi.loader.plan(new).unwrap();
        assert!(!steps.is_empty());
        let mut committed = false;
        cut_everywhere(&steps, |at| {
            cuts += 1;
            let next = pi.firmware_reads(false);
            let tried = pi.firmware_reads(true);
            assert!(next != tried && [2, 3].contains(&next) && [2, 3].contains(&tried));
            if at.ends_with("done") {
                assert_eq!(next, *new.of(&[2, 3]), "commit, {at}");
                committed = true;
            }
        });
        assert!(committed);
        assert_eq!(pi.power_on(false), new);
    }
    assert!(cuts >= 14, "{cuts}");
}

#[tokio::test]
async fn a_tryboot_section_that_is_missing_is_written_by_the_next_trial() {
    let mut pi = Pi::new();
    pi.write("[all]\ntryboot_a_b=1\nboot_partition=2\n");
    assert_eq!(pi.state().await, (Some(Side::A), false));
    pi.loader.try_next(Side::B).await.unwrap();
    assert_eq!(pi.restart(), Side::B);
}

fn complaints(pi: &Pi, kind: Option<&str>, command: &[String]) -> String {
    let path = |name: &str| pi.dir.path().join(name);
    let (a, b) = (path("disk5"), path("disk6"));
    let file_system = |_: &Path| kind.map(str::to_owned);
    let board = Board {
        slots: Some([&a, &b]),
        reboot_command: command,
        file_system: &file_system,
    };
    let check = pi.loader.check(&board);
    let findings = blocking(check);
    findings
        .into_iter()
        .filter(|finding| !finding.good)
        .map(|finding| finding.text + "\n")
        .collect()
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn the_self_test_names_each_mistake_of_the_integration() {
    let pi = Pi::new();
    let fat = |name: &str| {
        let mut sector = vec![0; 512];
        sector[54..59].copy_from_slice(b"FAT16");
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        std::fs::write(pi.dir.path().join(name), sector).unwrap();
    };
    fat("disk2");
    fat("disk3");
    let reboot = pi.dir.path().join("reboot");
    std::fs::write(&reboot, "").unwrap();
    let command = [reboot.display().to_string()];
    assert_eq!(complaints(&pi, Some("vfat"), &command), "");

    let wrong = |text: &str, wanted: &str| {
        pi.write(text);
        let found = complaints(&pi, Some("vfat"), &command);
        assert!(found.contains(wanted), "{text:?}: {found}");
        assert_eq!(found.lines().count(), 1, "{text:?}: {found}");
    };
    wrong(&GOOD.replace("tryboot_a_b=1\n", ""), "lacks tryboot_a_b=1");
    wrong(&GOOD.replace("=3", "=2"), "same boot_partition");
    wrong(&GOOD.replace("=3", "=7"), "boot_partition 7 for [tryboot]");
    wrong(&"#".repeat(600), "600 bytes");
    std::fs::remove_file(pi.dir.path().join("auto/autoboot.txt")).unwrap();
    let found = complaints(&pi, Some("vfat"), &command);
    assert!(found.contains("autoboot.txt does not exist"), "{found}");
    pi.write(GOOD);

    let found = complaints(&pi, None, &command);
    assert!(found.contains("no mount point"), "{found}");
    let found = complaints(&pi, Some("ext4"), &command);
    assert!(found.contains("type ext4"), "{found}");
    std::fs::write(pi.dir.path().join("disk3"), [0; 512]).unwrap();
    let found = complaints(&pi, Some("vfat"), &command);
    assert!(found.contains("disk3 is not FAT"), "{found}");
    fat("disk3");
    std::fs::remove_file(pi.dir.path().join("disk2")).unwrap();
    let found = complaints(&pi, Some("vfat"), &command);
    assert!(found.contains("disk2 cannot be read"), "{found}");
    fat("disk2");

    std::fs::write(
        pi.dir.path().join("firmware/partition"),
        1_u32.to_be_bytes(),
    )
    .unwrap();
    let found = complaints(&pi, Some("vfat"), &command);
    assert!(found.contains("booted from partition 1"), "{found}");
    std::fs::remove_file(pi.dir.path().join("firmware/partition")).unwrap();
    let found = complaints(&pi, Some("vfat"), &command);
    assert!(found.contains("cannot be read: the firmware"), "{found}");
    std::fs::write(
        pi.dir.path().join("firmware/partition"),
        2_u32.to_be_bytes(),
    )
    .unwrap();

    let busybox = pi.dir.path().join("busybox");
    std::fs::write(&busybox, "").unwrap();
    std::fs::remove_file(&reboot).unwrap();
    std::os::unix::fs::symlink(&busybox, &reboot).unwrap();
    let found = complaints(&pi, Some("vfat"), &command);
    assert!(found.contains("drops its argument"), "{found}");
}
