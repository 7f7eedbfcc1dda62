//! The firmware of the Raspberry Pi as boot loader: `autoboot.txt` names the boot partition of the slot
//! to boot, and that of the slot that a restart with the tryboot flag boots, once.
//!
//! The flag is in no file: it is the argument of the restart, which the kernel hands to the firmware. So a
//! trial that hangs, panics or loses its power is followed by the default slot whatever happens, and a
//! commit is one file. A restart without the argument (a power cut while the trial is prepared) is none:
//! the default slot comes up, and the update fails. Whether a trial is prepared must not outlive the
//! restart, therefore a file in memory says so.

use std::path::{Path, PathBuf};

use ambidex_platform::fs;

use super::autoboot::{AUTOBOOT_BYTES_MAX, Autoboot, TRYBOOT_A_B};
use super::steps::{Step, carry_out};
use super::{Board, BootConfig, BootError, Finding, Side, SlotLoader, State};

const FILE: &str = "autoboot.txt";
const NAME: &str = "tryboot";
/// Partition number 0: the default, which `autoboot.txt` tells.
const REBOOT_ARGUMENT: &str = "0 tryboot";
const EXAMPLE: &str = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";

/// `autoboot.txt` and what the firmware tells of this boot.
#[derive(Debug, Clone)]
pub struct Tryboot {
    file: PathBuf,
    boot_parts: [u32; 2],
    firmware: PathBuf,
    armed: PathBuf,
}

impl Tryboot {
    /// Names the places; touches no file.
    #[must_use]
    pub fn open(config: &BootConfig) -> Self {
        Self {
            file: config.autoboot_dir.join(FILE),
            boot_parts: config.boot_parts,
            firmware: config.firmware_dir.clone(),
            armed: config.armed_file.clone(),
        }
    }

    pub(super) fn is_present(config: &BootConfig) -> bool {
        let found = Self::open(config).read();
        found.is_ok_and(|autoboot| autoboot.get(TRYBOOT_A_B, true) == Some("1"))
    }

    fn read(&self) -> Result<Autoboot, BootError> {
        let text = fs::read_if_present(&self.file, 64 * 1024)?.ok_or_else(|| {
            BootError::Configuration(format!(
                "{} does not exist: mount the first FAT partition there or set [boot] autoboot_dir; the file is, for example, {EXAMPLE:?}",
                self.file.display()
            ))
        })?;
        Autoboot::parse(&text).map_err(|problem| self.unusable(&problem))
    }

    fn unusable(&self, problem: &str) -> BootError {
        BootError::Configuration(format!("{}: {problem}", self.file.display()))
    }

    /// A number of four bytes that the firmware has put into the device tree.
    fn told(&self, name: &str) -> Option<u32> {
        let bytes = fs::read_if_present(&self.firmware.join(name), 16).ok()??;
        bytes.try_into().ok().map(u32::from_be_bytes)
    }

    fn armed(&self) -> Option<Side> {
        let bytes = fs::read_if_present(&self.armed, 16).ok()??;
        let text = String::from_utf8_lossy(&bytes);
        Side::BOTH
            .into_iter()
            .find(|side| side.letter() == text.trim())
    }

    /// What the next boots are: the default, and the one by tryboot.
    fn plan(&self, default: Side) -> Result<Vec<Step>, BootError> {
        let autoboot = self.read()?;
        let [default, tried] = [default, default.other()].map(|side| *side.of(&self.boot_parts));
        let changed = autoboot
            .with_partitions(default, tried)
            .map_err(|problem| self.unusable(&problem))?;
        if changed == autoboot {
            return Ok(Vec::new());
        }
        Ok(vec![Step::Replace {
            path: self.file.clone(),
            bytes: changed.bytes(),
        }])
    }

    /// What is wrong with the file.
    fn complaints(&self, autoboot: &Autoboot) -> Vec<String> {
        let file = self.file.display();
        let mut found = Vec::new();
        if autoboot.get(TRYBOOT_A_B, true) != Some("1") {
            found.push(format!(
                "{file} lacks {TRYBOOT_A_B}=1 in [all]: without it tryboot looks for tryboot.txt instead of the other slot"
            ));
        }
        let side = |tryboot| {
            let number = autoboot.partition(tryboot)?;
            Side::at(&self.boot_parts, &number)
        };
        let [a, b] = self.boot_parts;
        for (tryboot, section) in [(false, "[all]"), (true, "[tryboot]")] {
            if side(tryboot).is_none() {
                let number = autoboot
                    .partition(tryboot)
                    .map_or("none".to_owned(), |number| number.to_string());
                found.push(format!(
                    "{file} has the boot_partition {number} for {section}, which is neither {a} (slot A) nor {b} (slot B); correct it, or [boot] boot_part_a and boot_part_b"
                ));
            }
        }
        if side(false).is_some() && side(false) == side(true) {
            found.push(format!(
                "{file} has the same boot_partition for [all] and [tryboot]: a trial would boot the running slot; [tryboot] has to stand behind [all] and to name the other slot"
            ));
        }
        found
    }

    fn firmware_findings(&self) -> Finding {
        let place = self.firmware.display();
        match self.told("partition") {
            None => Finding::bad(format!(
                "{place}/partition cannot be read: the firmware is older than tryboot_a_b or not a Raspberry Pi's; update the bootloader (rpi-eeprom-update)"
            )),
            Some(number) if Side::at(&self.boot_parts, &number).is_none() => Finding::bad(format!(
                "the firmware has booted from partition {number}, which is neither {} (slot A) nor {} (slot B)",
                self.boot_parts[0], self.boot_parts[1]
            )),
            Some(number) => Finding::good(format!(
                "the firmware has booted from partition {number}{}",
                if self.told("tryboot") == Some(1) {
                    " by tryboot"
                } else {
                    ""
                }
            )),
        }
    }
}

impl SlotLoader for Tryboot {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn state(&self, running: Option<Side>) -> Result<State, BootError> {
        let autoboot = self.read()?;
        let told = self.told("partition");
        let booted = match told {
            Some(number) => Side::at(&self.boot_parts, &number),
            None => running,
        };
        let default = autoboot
            .partition(false)
            .and_then(|number| Side::at(&self.boot_parts, &number));
        let (side, trial) = match (booted, self.armed()) {
            (Some(booted), _) if Some(booted) != default => (Some(booted), true),
            (_, Some(armed)) => (Some(armed), true),
            (booted, None) => (booted, false),
        };
        let number = |number: Option<u32>| number.map_or("none".to_owned(), |n| n.to_string());
        Ok(State {
            side,
            trial,
            says: format!(
                "boot_partition={}, by tryboot {}; booted from partition {}",
                number(autoboot.partition(false)),
                number(autoboot.partition(true)),
                told.map_or("(not told)".to_owned(), |n| n.to_string()),
            ),
            // what [tryboot] says is put right by the next trial
            obstacle: (autoboot.get(TRYBOOT_A_B, true) != Some("1") || default.is_none())
                .then(|| self.complaints(&autoboot).into_iter().next())
                .flatten(),
        })
    }

    async fn try_next(&self, side: Side) -> Result<(), BootError> {
        carry_out(&self.plan(side.other())?)?;
        Ok(fs::write_durable(
            &self.armed,
            side.letter().as_bytes(),
            0o600,
        )?)
    }

    async fn commit(&self, side: Side) -> Result<(), BootError> {
        carry_out(&self.plan(side)?)?;
        Ok(fs::remove_tree(&self.armed)?)
    }

    async fn go_back(&self, side: Side) -> Result<(), BootError> {
        fs::remove_tree(&self.armed)?;
        Ok(carry_out(&self.plan(side)?)?)
    }

    fn reboot_argument(&self) -> Option<&'static str> {
        self.armed().map(|_| REBOOT_ARGUMENT)
    }

    async fn check(&self, board: &Board<'_>) -> Vec<Finding> {
        let dir = self.file.parent().unwrap_or(Path::new("/"));
        let mut findings = vec![board.fat(dir, "autoboot_dir")];
        match self.read() {
            Err(error) => findings.push(Finding::bad(error.to_string())),
            Ok(autoboot) => {
                let complaints = self.complaints(&autoboot);
                if complaints.is_empty() {
                    findings.push(Finding::good(format!(
                        "{} names both slots ({} of {AUTOBOOT_BYTES_MAX} bytes)",
                        self.file.display(),
                        autoboot.bytes().len()
                    )));
                }
                findings.extend(complaints.into_iter().map(Finding::bad));
            }
        }
        findings.push(self.firmware_findings());
        if let Some(slots) = board.slots {
            for side in Side::BOTH {
                let root = *side.of(&slots);
                findings.push(boot_partition(root, *side.of(&self.boot_parts)));
            }
        }
        findings.push(reboot_command(board.reboot_command));
        findings
    }
}

/// Whether the partition beside a slot's root file system is FAT.
fn boot_partition(root: &Path, number: u32) -> Finding {
    let text = root.to_string_lossy();
    let disk = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let path = PathBuf::from(format!("{disk}{number}"));
    let shown = path.display();
    let mut sector = [0; 512];
    let read = std::fs::File::open(&path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut sector));
    match read {
        Err(cause) => Finding::bad(format!(
            "the boot partition {shown} cannot be read: {cause}; set [boot] boot_part_a and boot_part_b"
        )),
        Ok(()) if is_fat(&sector) => Finding::good(format!("the boot partition {shown} is FAT")),
        Ok(()) => Finding::bad(format!(
            "the boot partition {shown} is not FAT: the firmware does not boot from it"
        )),
    }
}

fn is_fat(sector: &[u8; 512]) -> bool {
    let kind = |at: usize| sector[at..].starts_with(b"FAT");
    sector[510..] == [0x55, 0xAA] && (kind(54) || kind(82))
}

/// Whether the restart carries its argument as far as the kernel.
fn reboot_command(command: &[String]) -> Finding {
    let shown = command.join(" ");
    let program = command.first().map(String::as_str).unwrap_or_default();
    let path = if program.contains('/') {
        Some(PathBuf::from(program))
    } else {
        fs::find_program(program)
    };
    let Some(path) = path.and_then(|path| std::fs::canonicalize(path).ok()) else {
        return Finding::bad(format!("the reboot command {shown:?} is not found"));
    };
    match path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .as_ref()
    {
        "systemctl" => Finding::good(format!(
            "the reboot command {shown:?} is systemd's, which hands the argument on"
        )),
        "busybox" | "toybox" | "halt" | "init" => Finding::bad(format!(
            "the reboot command {shown:?} is {}, which drops its argument: the trial would never boot; set reboot_command to a program that hands \"{REBOOT_ARGUMENT}\" to the kernel",
            path.display()
        )),
        _ => Finding::good(format!(
            "the reboot command {shown:?} is called with the argument \"{REBOOT_ARGUMENT}\", which it has to hand to the kernel"
        )),
    }
}

#[cfg(test)]
#[path = "tryboot_tests.rs"]
mod tests;
