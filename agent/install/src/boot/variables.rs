//! Boot loaders with an environment: `mender_boot_part`, `upgrade_available` and `bootcount`.

use super::{
    BOOT_PART, BOOT_PART_HEX, BOOTCOUNT, Board, Boot, BootEnv, BootError, Finding, Side,
    SlotLoader, State, UPGRADE_AVAILABLE,
};

/// An environment and the numbers by which it knows the slots.
#[derive(Debug, Clone)]
pub struct Variables {
    boot: Boot,
    numbers: [u32; 2],
}

impl Variables {
    /// The slots have these partition numbers.
    #[must_use]
    pub fn new(boot: Boot, numbers: [u32; 2]) -> Self {
        Self { boot, numbers }
    }

    /// Points the boot loader at a slot, all variables in one step.
    async fn set(&self, side: Side, trial: &str) -> Result<(), BootError> {
        let number = *side.of(&self.numbers);
        let (decimal, hex) = (number.to_string(), format!("{number:x}"));
        self.boot
            .write(&[
                (BOOT_PART, decimal.as_str()),
                (BOOT_PART_HEX, hex.as_str()),
                (UPGRADE_AVAILABLE, trial),
                (BOOTCOUNT, "0"),
            ])
            .await
    }
}

impl SlotLoader for Variables {
    fn name(&self) -> &'static str {
        self.boot.name()
    }

    async fn state(&self, _running: Option<Side>) -> Result<State, BootError> {
        let env = self.boot.read().await?;
        let shown = |key| env.get(key).unwrap_or("(unset)");
        Ok(State {
            side: env
                .boot_part()
                .and_then(|number| Side::at(&self.numbers, &number)),
            trial: env.upgrade_available(),
            says: format!(
                "{BOOT_PART}={}, {UPGRADE_AVAILABLE}={}",
                shown(BOOT_PART),
                shown(UPGRADE_AVAILABLE)
            ),
            obstacle: env.check_canary().err(),
        })
    }

    async fn try_next(&self, side: Side) -> Result<(), BootError> {
        self.set(side, "1").await
    }

    async fn commit(&self, _side: Side) -> Result<(), BootError> {
        self.boot
            .write(&[(UPGRADE_AVAILABLE, "0"), (BOOTCOUNT, "0")])
            .await
    }

    async fn go_back(&self, side: Side) -> Result<(), BootError> {
        self.set(side, "0").await
    }

    async fn check(&self, _board: &Board<'_>) -> Vec<Finding> {
        match self.boot.read().await {
            Err(error) => vec![Finding::bad(format!("{}: {error}", self.boot.name()))],
            Ok(env) => {
                let place = format!("boot variables are in the {}", self.boot.name());
                let mut findings = vec![Finding::good(place)];
                findings.extend(environment(&env));
                findings
            }
        }
    }
}

fn environment(env: &BootEnv) -> [Finding; 3] {
    let part = env.boot_part().map_or_else(
        || {
            Finding::bad(format!(
                "{BOOT_PART} is not set or no number: the boot scripts do not choose a slot by it"
            ))
        },
        |part| Finding::good(format!("the bootloader boots partition {part}")),
    );
    let canary = env.check_canary().map_or_else(Finding::bad, |()| {
        Finding::good("bootloader and system see the same variables, as far as the board can tell")
    });
    let trial = if env.upgrade_available() {
        format!(
            "an update waits for its commit (boots so far: {})",
            env.bootcount()
        )
    } else {
        "no update waits for its commit".to_owned()
    };
    [part, canary, Finding::good(trial)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(pairs: &[(&str, &str)]) -> Vec<String> {
        let vars = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        environment(&BootEnv { vars })
            .into_iter()
            .filter(|finding| !finding.good)
            .map(|finding| finding.text)
            .collect()
    }

    #[test]
    fn a_good_environment_has_no_complaints_and_a_bad_one_names_them() {
        assert!(complaints(&[("mender_boot_part", "2"), ("upgrade_available", "0")]).is_empty());
        assert_eq!(complaints(&[]).len(), 1);
        let unproven = complaints(&[
            ("mender_boot_part", "2"),
            ("mender_check_saveenv_canary", "1"),
        ]);
        assert!(unproven[0].contains("canary"), "{unproven:?}");
    }
}
