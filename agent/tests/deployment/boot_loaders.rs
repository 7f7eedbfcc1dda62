//! Whole deployments of the real agent with boot loaders that keep no variables: the firmware of the Raspberry Pi,
//! systemd-boot and a vendor's script. Slots are files, partitions are directories, and the boot loaders are played
//! here from their documentation.

use std::{
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use ambidex_artifact::Payload;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};

use crate::trial::{Offer, Trial};

const SLOT_BYTES: usize = 1 << 20;
/// What the boot partition has of its slot.
const KERNEL_BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tryboot,
    SystemdBoot,
    Script,
}

/// What is wrong with the new system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ailment {
    None,
    Panics,
    Offline,
}

struct Board {
    trial: Trial,
    kind: Kind,
    ailment: Ailment,
    booted: char,
    image: Vec<u8>,
}

/// The vendor's tool. Its boot loader keeps one line: what is next, and whether that is settled, a trial, or a trial
/// that was started.
const VENDOR: &str = r#"cd "$(dirname "$0")"
keep() { echo "$1 $2" > line.new; mv line.new line; }
case $1 in
state) read -r next how < line
    echo protocol=1; echo running=$(cat running); echo next=$next
    if [ $how = settled ]; then echo trial=no; else echo trial=yes; fi ;;
set-try) keep "$2" trial ;;
commit|rollback) keep "$2" settled ;;
*) exit 2 ;;
esac"#;

impl Board {
    async fn new(kind: Kind, ailment: Ailment) -> Self {
        let mut image = vec![0; SLOT_BYTES];
        StdRng::seed_from_u64(11).fill_bytes(&mut image);
        let offer = Offer {
            payload: Payload::RootfsImage,
            files: vec![("file", image.clone())],
            ..Offer::default()
        };
        let trial = Trial::offering(&offer, "", "", |_, _| None).await;
        let path = |name: &str| trial.device.path(name);
        for folder in ["auto", "firmware", "run", "vendor", "esp/loader/entries"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        for (letter, slot) in [('a', "slot5"), ('b', "slot6")] {
            std::fs::write(path(slot), vec![0xA2; SLOT_BYTES]).unwrap();
            std::fs::write(path(&format!("kernel-{letter}")), vec![0xA2; KERNEL_BYTES]).unwrap();
        }
        let prepare = format!(
            "head -c {KERNEL_BYTES} \"$2\" > {}-\"$1\"",
            path("kernel").display()
        );
        trial.device.script("lab/prepare", &prepare);
        let reboot = format!(
            "echo \"$*\" > {}\nkill -9 $PPID",
            path("lab/rebooting").display()
        );
        trial.device.script("lab/restart", &reboot);
        let places = match kind {
            Kind::Tryboot => {
                trial.device.write(
                    "auto/autoboot.txt",
                    "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n",
                );
                format!(
                    "kind = \"tryboot\"\nautoboot_dir = {:?}\nfirmware_dir = {:?}\narmed_file = {:?}\n",
                    path("auto"),
                    path("firmware"),
                    path("run/armed")
                )
            }
            Kind::SystemdBoot => {
                trial
                    .device
                    .write("esp/loader/loader.conf", "default ambidex-*\n");
                for (letter, version) in [('a', 1), ('b', 0)] {
                    let text = format!("sort-key ambidex\nlinux /{letter}\nversion {version}\n");
                    trial
                        .device
                        .write(&format!("esp/loader/entries/ambidex-{letter}.conf"), &text);
                    trial.device.write(&format!("esp/{letter}"), "kernel");
                }
                format!("kind = \"systemd-boot\"\nesp = {:?}\n", path("esp"))
            }
            Kind::Script => {
                trial.device.script("vendor/script", VENDOR);
                trial.device.write("vendor/line", "a settled\n");
                format!("kind = \"script\"\nscript = {:?}\n", path("vendor/script"))
            }
        };
        let config = std::fs::read_to_string(path("conf/agent.toml")).unwrap();
        let extra = format!(
            "retry_poll_count = 4\nrootfs_part_a = {:?}\nrootfs_part_b = {:?}\nrunning_root = {:?}\n\
             reboot_command = [{:?}]\n[boot]\nprepare_slot = [{:?}]\n{places}",
            path("slot5"),
            path("slot6"),
            path("root"),
            path("lab/restart"),
            path("lab/prepare"),
        );
        trial.device.write("conf/agent.toml", &(config + &extra));
        let mut board = Self {
            trial,
            kind,
            ailment,
            booted: ' ',
            image,
        };
        board.power_on("");
        board
    }

    fn path(&self, name: &str) -> PathBuf {
        self.trial.device.path(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn slot(&self, letter: char) -> PathBuf {
        self.path(if letter == 'a' { "slot5" } else { "slot6" })
    }

    /// Whole, with its own kernel, and healthy.
    fn comes_up(&self, letter: char) -> bool {
        let slot = std::fs::read(self.slot(letter)).unwrap();
        let kernel = std::fs::read(self.path(&format!("kernel-{letter}"))).unwrap();
        let whole = slot == self.image || slot.iter().all(|byte| *byte == 0xA2);
        let healthy = slot != self.image || self.ailment != Ailment::Panics;
        whole && healthy && slot.starts_with(&kernel) && kernel.len() == KERNEL_BYTES
    }

    fn runs_new(&self) -> bool {
        std::fs::read(self.slot(self.booted)).unwrap() == self.image
    }

    /// The firmware: by the flag the last line of all, without it that of `[all]`.
    fn firmware(&self, flag: bool) -> char {
        let text = self.text("auto/autoboot.txt");
        let default = text.split("[tryboot]").next().unwrap();
        let section = if flag { text.as_str() } else { default };
        let line = section
            .lines()
            .rfind(|line| line.starts_with("boot_partition="));
        let partition: u32 = line.unwrap().split_once('=').unwrap().1.parse().unwrap();
        std::fs::write(self.path("firmware/partition"), partition.to_be_bytes()).unwrap();
        std::fs::write(self.path("firmware/tryboot"), u32::from(flag).to_be_bytes()).unwrap();
        if partition == 2 { 'a' } else { 'b' }
    }

    /// systemd-boot: exhausted entries last, then the higher version; counts by renaming.
    fn systemd_boot(&self) -> char {
        let dir = self.path("esp/loader/entries");
        let mut known: Vec<(bool, i64, String)> = Vec::new();
        for file in std::fs::read_dir(&dir).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if !name.ends_with(".conf") {
                continue;
            }
            let text = std::fs::read_to_string(dir.join(&name)).unwrap();
            let version = text.lines().find_map(|line| line.strip_prefix("version "));
            known.push((
                name.contains("+0"),
                -version.unwrap().parse::<i64>().unwrap(),
                name,
            ));
        }
        known.sort();
        let name = known[0].2.clone();
        if let Some(stem) = name.strip_suffix("+1.conf") {
            std::fs::rename(dir.join(&name), dir.join(format!("{stem}+0-1.conf"))).unwrap();
        }
        name.chars().nth("ambidex-".len()).unwrap()
    }

    /// The vendor's boot loader: a trial that was started and not settled is over.
    fn vendor(&self) -> char {
        let line = self.text("vendor/line");
        let (next, how) = line.trim().split_once(' ').unwrap();
        let (now, then) = match (how, next) {
            ("trial", _) => (next, "started"),
            ("started", "a") => ("b", "settled"),
            ("started", _) => ("a", "settled"),
            _ => (next, how),
        };
        self.trial
            .device
            .write("vendor/line", &format!("{now} {then}\n"));
        now.chars().next().unwrap()
    }

    /// A start of the board: with the argument that the restart had, or without one when the power came back.
    fn power_on(&mut self, argument: &str) {
        let _ = std::fs::remove_file(self.path("run/armed"));
        let mut flag = argument == "0 tryboot";
        for _ in 0..4 {
            let chosen = match self.kind {
                Kind::Tryboot => self.firmware(flag),
                Kind::SystemdBoot => self.systemd_boot(),
                Kind::Script => self.vendor(),
            };
            // a slot that panics restarts, and the flag is gone
            flag = false;
            if !self.comes_up(chosen) {
                continue;
            }
            self.booted = chosen;
            self.trial
                .device
                .write("vendor/running", &format!("{chosen}\n"));
            let link = self.path("root");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(self.slot(chosen), link).unwrap();
            let offline = self.ailment == Ailment::Offline && self.runs_new();
            self.trial.offline.store(offline, Ordering::Relaxed);
            return;
        }
        panic!("nothing comes up; {}", self.told());
    }

    /// Lets the agent live until it dies, the limit passes, or the deployment is over. True when it was over.
    async fn live(&mut self, limit: Duration) -> bool {
        self.trial.start();
        let until = Instant::now() + limit;
        while Instant::now() < until && self.trial.is_alive() && !self.trial.is_over() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let over = self.trial.is_over();
        self.trial.kill();
        let mark = self.path("lab/rebooting");
        if mark.exists() {
            let argument = self.text("lab/rebooting");
            std::fs::remove_file(mark).unwrap();
            self.power_on(argument.trim());
        }
        over
    }

    async fn finish(&mut self) {
        let limit = Instant::now() + Duration::from_secs(90);
        while !self.live(Duration::from_secs(60)).await {
            assert!(Instant::now() < limit, "{}", self.told());
        }
        // two more starts: nothing may depend on the last one
        self.power_on("");
        self.power_on("");
    }

    fn told(&self) -> String {
        format!(
            "{:?} {:?}: slot {} booted, statuses {}, name {}\n{}",
            self.kind,
            self.ailment,
            self.booted,
            self.trial.statuses(),
            self.trial.name(),
            self.trial.log()
        )
    }

    /// The end, whatever happened on the way: true for success.
    fn judge(&self) -> bool {
        let told = self.told();
        let statuses = self.trial.statuses();
        let finals: Vec<&str> = statuses
            .split(' ')
            .filter(|word| ["success", "failure"].contains(word))
            .collect();
        assert!(
            !finals.is_empty() && finals.iter().all(|status| *status == finals[0]),
            "{told}"
        );
        let success = finals[0] == "success";
        assert_eq!(self.runs_new(), success, "{told}");
        assert_eq!(
            self.trial.name(),
            if success { "new" } else { "unknown" },
            "{told}"
        );
        assert!(!(success && self.ailment != Ailment::None), "{told}");
        success
    }

    /// What the self-test complains of.
    fn complaints(&self, args: &[&str]) -> Vec<String> {
        let (code, text) = self.trial.verb(&[&["board", "check"], args].concat());
        let found: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("FAIL "))
            .map(str::to_owned)
            .collect();
        assert_eq!(code, i32::from(!found.is_empty()), "{text}");
        found
    }
}

async fn ends(kind: Kind, ailment: Ailment) {
    let mut board = Board::new(kind, ailment).await;
    board.finish().await;
    let success = board.judge();
    let told = board.told();
    assert_eq!(success, ailment == Ailment::None, "{told}");
    assert_eq!(board.booted, if success { 'b' } else { 'a' }, "{told}");
    let statuses = board.trial.statuses();
    if success {
        assert_eq!(
            statuses,
            "downloading installing rebooting installing success"
        );
        assert_eq!(board.trial.lives, 2, "one restart");
    } else {
        assert_eq!(
            statuses, "downloading installing rebooting failure",
            "{told}"
        );
    }
}

#[tokio::test]
async fn tryboot_boots_the_other_slot_and_is_committed() {
    ends(Kind::Tryboot, Ailment::None).await;
}

#[tokio::test]
async fn tryboot_leaves_a_system_that_panics() {
    ends(Kind::Tryboot, Ailment::Panics).await;
}

#[tokio::test]
async fn tryboot_is_left_by_the_agent_without_a_server() {
    ends(Kind::Tryboot, Ailment::Offline).await;
}

#[tokio::test]
async fn systemd_boot_boots_the_other_slot_and_is_committed() {
    ends(Kind::SystemdBoot, Ailment::None).await;
}

#[tokio::test]
async fn systemd_boot_leaves_a_system_that_panics() {
    ends(Kind::SystemdBoot, Ailment::Panics).await;
}

#[tokio::test]
async fn systemd_boot_is_left_by_the_agent_without_a_server() {
    ends(Kind::SystemdBoot, Ailment::Offline).await;
}

#[tokio::test]
async fn a_script_boots_the_other_slot_and_is_committed() {
    ends(Kind::Script, Ailment::None).await;
}

#[tokio::test]
async fn a_script_leaves_a_system_that_panics() {
    ends(Kind::Script, Ailment::Panics).await;
}

#[tokio::test]
async fn a_script_is_left_by_the_agent_without_a_server() {
    ends(Kind::Script, Ailment::Offline).await;
}

/// Where the boot files cannot be brought to their place, nothing is switched.
#[tokio::test]
async fn boot_files_that_cannot_be_copied_end_the_update_before_the_switch() {
    let mut board = Board::new(Kind::Tryboot, Ailment::None).await;
    board
        .trial
        .device
        .script("lab/prepare", "echo the card is full >&2; exit 1");
    board.finish().await;
    assert!(!board.judge());
    assert!(
        board.trial.log().contains("the card is full"),
        "{}",
        board.told()
    );
    assert!(
        board
            .text("auto/autoboot.txt")
            .starts_with("[all]\ntryboot_a_b=1\nboot_partition=2\n")
    );
}

/// The self-test on the same boards. Directories are no FAT partitions, and that is all it says.
#[tokio::test]
async fn board_check_tells_what_is_wrong() {
    let board = Board::new(Kind::Script, Ailment::None).await;
    assert!(board.complaints(&[]).is_empty());
    assert!(board.complaints(&["--exercise"]).is_empty());
    assert_eq!(board.text("vendor/line"), "a settled\n");
    board
        .trial
        .device
        .script("vendor/script", "echo protocol=1");
    let found = board.complaints(&["--exercise"]);
    assert!(found[0].contains("running is missing"), "{found:?}");

    let board = Board::new(Kind::SystemdBoot, Ailment::None).await;
    let found = board.complaints(&[]);
    assert!(
        found.len() == 1 && found[0].contains("no mount point"),
        "{found:?}"
    );

    let board = Board::new(Kind::Tryboot, Ailment::None).await;
    let found = board.complaints(&["--exercise"]).join("\n");
    for wanted in [
        "no mount point",
        "slot2 cannot be read",
        "slot3 cannot be read",
        "not exercised",
    ] {
        assert!(found.contains(wanted), "{wanted}: {found}");
    }
    assert_eq!(found.lines().count(), 4, "{found}");
    std::fs::remove_file(board.path("auto/autoboot.txt")).unwrap();
    let found = board.complaints(&[]).join("\n");
    assert!(found.contains("autoboot.txt does not exist"), "{found}");
}

/// Rounds of each kind in an ordinary test run; `AMBIDEX_TEST_ROUNDS` overrides it, `AMBIDEX_TEST_SEED` repeats one.
const ROUNDS: u64 = 2;

#[tokio::test]
async fn random_deaths_and_power_cuts() {
    let from_env = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let first =
        from_env("AMBIDEX_TEST_SEED").unwrap_or_else(|| rand::thread_rng().r#gen::<u32>().into());
    for seed in first..first + from_env("AMBIDEX_TEST_ROUNDS").unwrap_or(ROUNDS) {
        for kind in [Kind::Tryboot, Kind::SystemdBoot, Kind::Script] {
            let mut random = StdRng::seed_from_u64(seed);
            let ailment = [Ailment::None, Ailment::None, Ailment::Panics][random.gen_range(0..3)];
            eprintln!("seed {seed}: {kind:?} {ailment:?}");
            let mut board = Board::new(kind, ailment).await;
            for _ in 0..random.gen_range(1..5) {
                let limit = Duration::from_millis(random.gen_range(10..900));
                if board.live(limit).await {
                    break;
                }
                // half of the deaths are power cuts
                if random.gen_bool(0.5) {
                    board.power_on("");
                }
            }
            board.finish().await;
            board.judge();
        }
    }
}
