//! Which software a device with two root file systems runs, told from the device itself.
//!
//! Name and provides say what the agent believes. Where a way back failed, or a save was lost, that may be wrong. What
//! cannot be wrong: the slot that ran when the deployment began was never written, and the other one holds the new
//! image if all of it was received and verified. So the running slot tells, and its content does so even more.

use serde::{Deserialize, Serialize};

/// One of the two that a deployment knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Software {
    /// What ran before the deployment.
    Old,
    /// What the deployment brought.
    New,
}

/// The two slots of a deployment, by the numbers that the bootloader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Ran when the deployment began.
    pub original: u32,
    /// Was written.
    pub target: u32,
    /// All of the image is in the target, verified.
    #[serde(default)]
    pub complete: bool,
}

/// What the device shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sight {
    /// The slot that is mounted as the root; `None`: it cannot be recognised.
    pub running: Option<u32>,
    /// The slot that the bootloader names.
    pub booted: Option<u32>,
    /// The bootloader takes the next boot for a trial.
    pub on_trial: bool,
    /// Whose image the running slot holds, byte by byte; `None`: it was not compared, or is neither's.
    pub content: Option<Software>,
}

/// What follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// This runs, and the next boot will not change it.
    Runs(Software),
    /// The old software runs, but the bootloader is still to leave it: point it at the running slot, then it is so.
    GoBackFirst,
    /// The next boot decides.
    Open,
    /// Nothing proves anything.
    Unknown,
}

/// Judges. Only for a deployment that is over: nothing of it may be at work.
#[must_use]
pub fn truth(pair: Pair, sight: &Sight) -> Finding {
    let Some(running) = sight.running else {
        return Finding::Unknown;
    };
    let by_slot = if running == pair.original {
        Some(Software::Old)
    } else if running == pair.target && pair.complete {
        Some(Software::New)
    } else {
        None
    };
    let Some(software) = sight.content.or(by_slot) else {
        return Finding::Unknown;
    };
    let stays = sight.booted == Some(running) && !sight.on_trial;
    match (stays, software) {
        (true, software) => Finding::Runs(software),
        (false, Software::Old) if running == pair.original => Finding::GoBackFirst,
        (false, _) => Finding::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Pair = Pair {
        original: 2,
        target: 3,
        complete: true,
    };

    fn sight(running: u32, booted: u32, on_trial: bool) -> Sight {
        Sight {
            running: Some(running),
            booted: Some(booted),
            on_trial,
            content: None,
        }
    }

    #[test]
    fn the_running_slot_tells_unless_the_next_boot_changes_it() {
        for (running, booted, on_trial, expected) in [
            (2, 2, false, Finding::Runs(Software::Old)),
            (2, 3, true, Finding::GoBackFirst),
            (2, 3, false, Finding::GoBackFirst),
            (2, 2, true, Finding::GoBackFirst),
            (3, 3, false, Finding::Runs(Software::New)),
            (3, 3, true, Finding::Open),
            (3, 2, false, Finding::Open),
            (4, 4, false, Finding::Unknown),
        ] {
            let seen = sight(running, booted, on_trial);
            assert_eq!(truth(PAIR, &seen), expected, "{seen:?}");
        }
        let nowhere = Sight {
            running: None,
            ..sight(2, 2, false)
        };
        assert_eq!(truth(PAIR, &nowhere), Finding::Unknown);
    }

    #[test]
    fn half_an_image_proves_nothing_and_a_whole_one_everything() {
        let half = Pair {
            complete: false,
            ..PAIR
        };
        assert_eq!(truth(half, &sight(3, 3, false)), Finding::Unknown);
        assert_eq!(
            truth(half, &sight(2, 2, false)),
            Finding::Runs(Software::Old)
        );
        let compared = Sight {
            content: Some(Software::Old),
            ..sight(3, 3, false)
        };
        // the other slot held the old image: somebody copied it back
        assert_eq!(truth(half, &compared), Finding::Runs(Software::Old));
        assert_eq!(truth(PAIR, &compared), Finding::Runs(Software::Old));
    }
}
