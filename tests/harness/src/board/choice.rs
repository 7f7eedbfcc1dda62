//! Which slot a disk says boots next, whatever the boot loader.

use anyhow::{Context, Result, ensure};

use super::environment::BootEnvironment;
use super::firmware::select;

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    /// The slot that the boot loader knows by this number; it is the same for every kind of board.
    pub fn of_number(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::A),
            3 => Some(Self::B),
            _ => None,
        }
    }
}

/// What the boot loader starts next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootChoice {
    pub slot: Slot,
    /// Not committed. Never said by a disk whose boot loader has its trial in the restart.
    pub trial: bool,
}

impl BootChoice {
    pub(super) fn of_variables(variables: &BootEnvironment) -> Result<Self> {
        let part = variables.get("mender_boot_part");
        let slot = part.parse().ok().and_then(Slot::of_number);
        Ok(Self {
            slot: slot.with_context(|| format!("mender_boot_part is {part:?}"))?,
            trial: variables.get("upgrade_available") == "1",
        })
    }

    /// Of a file that names one slot and the other one for the trial.
    pub(super) fn of_autoboot(text: &[u8]) -> Result<Self> {
        let slot = |tryboot| {
            let number = select(text, tryboot).partition;
            number.and_then(Slot::of_number).with_context(|| {
                format!(
                    "autoboot.txt names no slot: {:?}",
                    String::from_utf8_lossy(text)
                )
            })
        };
        let (slot, tried) = (slot(false)?, slot(true)?);
        ensure!(
            slot != tried,
            "autoboot.txt has the same slot for the trial: {:?}",
            String::from_utf8_lossy(text)
        );
        Ok(Self { slot, trial: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autoboot_has_to_name_both_slots() {
        let text = b"[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n";
        let choice = BootChoice::of_autoboot(text).expect("a choice");
        let wanted = BootChoice {
            slot: Slot::B,
            trial: false,
        };
        assert_eq!(choice, wanted);
        for text in ["", "boot_partition=2\n", "boot_partition=4\n"] {
            let error = BootChoice::of_autoboot(text.as_bytes()).expect_err("no choice");
            assert!(error.to_string().contains("autoboot.txt"), "{error}");
        }
    }
}
