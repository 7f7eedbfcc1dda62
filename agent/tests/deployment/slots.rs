//! The real agent with its built-in A/B handler over two files as slots and a bootloader played by the test: updates,
//! panics, lost networks, and deaths by kill and power cut at random moments.

use std::{
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use ambidex_artifact::{Payload, Sha256Digest};
use ambidex_install::boot::{Boot, BootConfig, BootKind};
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};

use crate::trial::{Offer, Trial};

pub const SLOT_BYTES: usize = 3 << 20;
pub const OLD: u32 = 2;
pub const NEW: u32 = 3;

/// What is wrong with the new system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    None,
    /// Its kernel panics.
    Panics,
    /// It cannot reach the server.
    Offline,
}

pub struct Board {
    pub trial: Trial,
    pub env: BootConfig,
    ailment: Ailment,
    pub booted: u32,
    /// The board was found without anything to boot.
    dead: bool,
}

impl Board {
    pub async fn new(ailment: Ailment) -> Self {
        let mut image = vec![0; SLOT_BYTES];
        StdRng::seed_from_u64(7).fill_bytes(&mut image);
        let checksum = Sha256Digest::of(&image).to_string();
        let mut offer = Offer {
            payload: Payload::RootfsImage,
            files: vec![("file", image)],
            ..Offer::default()
        };
        offer
            .provides
            .insert("rootfs-image.checksum".into(), checksum);
        let trial = Trial::offering(&offer, "", "", |_, _| None).await;
        let env_dir = trial.device.path("env");
        std::fs::create_dir(&env_dir).unwrap();
        for copy in ["env1", "env2"] {
            let mut block =
                b"# GRUB Environment Block\nediting=0\nmender_boot_part=2\nupgrade_available=0\nbootcount=0\n".to_vec();
            block.resize(1024, b'#');
            std::fs::write(env_dir.join(copy), block).unwrap();
        }
        for slot in [OLD, NEW] {
            std::fs::write(
                trial.device.path(&format!("slot{slot}")),
                vec![0xA2; SLOT_BYTES],
            )
            .unwrap();
        }
        let path = |name: &str| trial.device.path(name);
        let config = std::fs::read_to_string(path("conf/agent.toml")).unwrap();
        let extra = format!(
            "retry_poll_count = 4\nrootfs_part_a = {:?}\nrootfs_part_b = {:?}\nrunning_root = {:?}\n\
             reboot_command = [{:?}]\n[boot]\nkind = \"grub\"\nenv_dir = {env_dir:?}\n",
            path("slot2"),
            path("slot3"),
            path("root"),
            path("lab/reboot"),
        );
        trial.device.write("conf/agent.toml", &(config + &extra));
        // `reboot` leaves a mark for the test, which then plays the bootloader, and ends the agent.
        trial.does("reboot", "touch $LAB/rebooting");
        let env = BootConfig {
            kind: BootKind::Grub,
            env_dir,
            ..BootConfig::default()
        };
        let mut board = Self {
            trial,
            env,
            ailment,
            booted: 0,
            dead: false,
        };
        board.boot().await;
        board
    }

    pub fn slot(&self, number: u32) -> PathBuf {
        self.trial.device.path(&format!("slot{number}"))
    }

    fn is_bootable(&self, number: u32) -> bool {
        let bytes = std::fs::read(self.slot(number)).unwrap();
        let old = bytes.iter().all(|byte| *byte == 0xA2);
        let mut new = vec![0; SLOT_BYTES];
        StdRng::seed_from_u64(7).fill_bytes(&mut new);
        old || (bytes == new && self.ailment != Ailment::Panics)
    }

    /// The software of a slot: `None` when it is half written.
    pub fn runs_new(&self) -> bool {
        std::fs::read(self.slot(self.booted))
            .unwrap()
            .iter()
            .any(|byte| *byte != 0xA2)
    }

    /// Power on: what the board's GRUB script does (section 7.5).
    pub async fn boot(&mut self) {
        let boot = Boot::open(&self.env).unwrap();
        loop {
            let vars = boot.read().await.unwrap();
            let mut part = vars.boot_part().unwrap();
            if vars.upgrade_available() {
                if vars.bootcount() == 0 {
                    boot.write(&[("bootcount", "1")]).await.unwrap();
                } else {
                    part = OLD + NEW - part;
                    let text = part.to_string();
                    boot.write(&[
                        ("mender_boot_part", &text),
                        ("upgrade_available", "0"),
                        ("bootcount", "0"),
                    ])
                    .await
                    .unwrap();
                }
            }
            if self.is_bootable(part) {
                self.booted = part;
                break;
            }
            if !boot.read().await.unwrap().upgrade_available() {
                self.dead = true;
                break;
            }
        }
        let link = self.trial.device.path("root");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(self.slot(self.booted), link).unwrap();
        let offline = self.ailment == Ailment::Offline && self.runs_new();
        self.trial.offline.store(offline, Ordering::Relaxed);
    }

    /// Lets the agent live until it dies, the limit passes, or the deployment is over. True when it was over.
    pub async fn live(&mut self, limit: Duration) -> bool {
        self.trial.start();
        let until = Instant::now() + limit;
        while Instant::now() < until && self.trial.is_alive() && !self.trial.is_over() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let over = self.trial.is_over();
        self.trial.kill();
        let mark = self.trial.device.path("lab/rebooting");
        if mark.exists() {
            while self.trial.is_something_running() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            std::fs::remove_file(mark).unwrap();
            self.boot().await;
        }
        over
    }

    pub async fn finish(&mut self) {
        let limit = Instant::now() + Duration::from_secs(90);
        while !self.live(Duration::from_secs(60)).await {
            assert!(Instant::now() < limit && !self.dead, "{}", self.told());
        }
        // One more power cut: nothing may depend on the last boot.
        self.boot().await;
    }

    pub fn told(&self) -> String {
        format!(
            "{:?}: slot {} booted, statuses {}, name {}, calls {}\n{}",
            self.ailment,
            self.booted,
            self.trial.statuses(),
            self.trial.name(),
            self.trial.trace(),
            self.trial.log()
        )
    }

    pub async fn judge(&self) {
        let told = self.told();
        assert!(!self.dead, "nothing to boot; {told}");
        assert!(self.is_bootable(self.booted), "{told}");
        let env = Boot::open(&self.env).unwrap().read().await.unwrap();
        assert!(!env.upgrade_available(), "a trial is pending; {told}");
        assert_eq!(env.boot_part(), Some(self.booted), "{told}");
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
        assert!(!self.trial.tree().exists(), "{told}");
    }
}

#[tokio::test]
async fn an_update_boots_the_other_slot_and_is_committed() {
    let mut board = Board::new(Ailment::None).await;
    board.finish().await;
    board.judge().await;
    assert_eq!(board.booted, NEW);
    assert_eq!(
        board.trial.statuses(),
        "downloading installing rebooting installing success"
    );
    assert_eq!(board.trial.lives, 2, "one reboot");
}

#[tokio::test]
async fn b3_a_system_that_panics_is_left_by_the_bootloader() {
    let mut board = Board::new(Ailment::Panics).await;
    board.finish().await;
    board.judge().await;
    assert_eq!(board.booted, OLD);
    assert_eq!(
        board.trial.statuses(),
        "downloading installing rebooting failure"
    );
}

#[tokio::test]
async fn s14_a_system_that_cannot_reach_the_server_is_left_by_the_agent() {
    let mut board = Board::new(Ailment::Offline).await;
    board.finish().await;
    board.judge().await;
    assert_eq!(board.booted, OLD);
    assert_eq!(
        board.trial.statuses(),
        "downloading installing rebooting failure"
    );
}

/// Rounds of an ordinary test run; `AMBIDEX_TEST_ROUNDS` overrides it, `AMBIDEX_TEST_SEED` repeats one.
const ROUNDS: u64 = 6;

async fn round(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let ailment = [
        Ailment::None,
        Ailment::None,
        Ailment::Panics,
        Ailment::Offline,
    ][random.gen_range(0..4)];
    let mut board = Board::new(ailment).await;
    eprintln!("seed {seed}: {ailment:?}");
    for _ in 0..random.gen_range(1..6) {
        let limit = Duration::from_millis(random.gen_range(10..1200));
        if board.live(limit).await {
            break;
        }
        // Half of the deaths are power cuts.
        if random.gen_bool(0.5) {
            board.boot().await;
        }
        assert!(!board.dead, "seed {seed}: {}", board.told());
    }
    board.finish().await;
    board.judge().await;
}

#[tokio::test]
async fn random_deaths_and_power_cuts() {
    let from_env = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let first = from_env("AMBIDEX_TEST_SEED");
    let rounds =
        from_env("AMBIDEX_TEST_ROUNDS").unwrap_or(if first.is_some() { 1 } else { ROUNDS });
    let first = first.unwrap_or_else(|| rand::thread_rng().r#gen::<u32>().into());
    for seed in first..first + rounds {
        round(seed).await;
    }
}
