//! The self-test of a board: what is wrong with the integration of slots and boot loader.

use std::path::{Path, PathBuf};

use ambidex_platform::{fs, mounts};

use super::Situation;
use super::slots::Slots;
use crate::boot::{Board, Finding, Loader, Side, SlotLoader};
use crate::context::RootfsConfig;
use crate::handler::HandlerError;

/// Looks at everything; with `exercise` a trial of the other slot is prepared and taken back as well.
pub async fn check(
    config: &RootfsConfig,
    reboot_command: &[String],
    exercise: bool,
) -> Vec<Finding> {
    let mut findings = partitions(config);
    let slots = Slots::resolve(config).ok();
    let numbers = slots.as_ref().map(Slots::numbers).unwrap_or_default();
    let loader = match Loader::open(&config.boot, numbers) {
        Ok(loader) => loader,
        Err(error) => {
            findings.push(Finding::bad(error.to_string()));
            return findings;
        }
    };
    findings.push(Finding::good(format!(
        "the boot loader is: {}",
        loader.name()
    )));
    let table = mounts::mounts().unwrap_or_default();
    let file_system = |dir: &Path| {
        let dir = std::fs::canonicalize(dir).ok()?;
        mounts::mounted_at(&table, &dir).map(|mount| mount.fs_type.clone())
    };
    let board = Board {
        slots: slots
            .as_ref()
            .map(|slots| [slots.a.path.as_path(), slots.b.path.as_path()]),
        reboot_command,
        file_system: &file_system,
    };
    findings.extend(loader.check(&board).await);
    findings.extend(prepare_slot(&config.boot.prepare_slot));
    if slots.is_some() {
        let whole = findings.iter().all(|finding| finding.good);
        findings.extend(together(config, exercise, whole).await);
    }
    findings
}

fn partitions(config: &RootfsConfig) -> Vec<Finding> {
    let keys = [
        ("rootfs_part_a", &config.part_a),
        ("rootfs_part_b", &config.part_b),
    ];
    let finding = |(key, part): (&str, &Option<PathBuf>)| match part {
        Some(path) if path.exists() => Finding::good(format!("{key} is {}", path.display())),
        Some(path) if !path.is_absolute() => Finding::good(format!(
            "{key} is {} (looked up at install)",
            path.display()
        )),
        Some(path) => Finding::bad(format!("{key} is {}, which does not exist", path.display())),
        None => Finding::bad(format!(
            "{key} is not set; set it in agent.toml, best in the state directory"
        )),
    };
    keys.into_iter().map(finding).collect()
}

fn prepare_slot(command: &[String]) -> Option<Finding> {
    let program = command.first()?;
    let found = if program.contains('/') {
        fs::is_executable_file(Path::new(program))
    } else {
        fs::find_program(program).is_some()
    };
    Some(if found {
        Finding::good(format!("prepare_slot calls {program}"))
    } else {
        Finding::bad(format!(
            "prepare_slot names {program}, which does not exist or is not executable"
        ))
    })
}

/// What kernel and boot loader say of each other.
async fn together(config: &RootfsConfig, exercise: bool, whole: bool) -> Vec<Finding> {
    let situation = match Situation::find(config).await {
        Ok(situation) => situation,
        Err(error) => return vec![Finding::bad(error.to_string())],
    };
    let state = &situation.state;
    let mut findings = Vec::new();
    match situation.check_root() {
        Ok(slot) => findings.push(Finding::good(format!(
            "the running system is the boot loader's: {}",
            slot.path.display()
        ))),
        Err(_) if state.trial && state.side.is_some() => findings.push(Finding::good(format!(
            "a trial of the other slot is prepared ({})",
            state.says
        ))),
        Err(error) => findings.push(Finding::bad(error.to_string())),
    }
    if state.trial {
        findings.push(Finding::good(format!(
            "an update is on trial ({})",
            state.says
        )));
    }
    if !exercise {
        return findings;
    }
    let settled = findings.iter().all(|finding| finding.good) && whole && !state.trial;
    findings.push(match (settled, situation.state.side) {
        (true, Some(side)) => match exercised(&situation, side).await {
            Ok(()) => Finding::good(
                "a trial of the other slot can be prepared and taken back (done just now)",
            ),
            Err(error) => Finding::bad(format!("exercise: {error}")),
        },
        _ => Finding::bad("not exercised: nothing else may be wrong, and no update on trial"),
    });
    findings
}

/// Prepares a trial and takes it back. A power cut in between is followed by the trial of a slot that may
/// be empty, which the boot loader then leaves by itself.
async fn exercised(situation: &Situation, running: Side) -> Result<(), HandlerError> {
    let loader = &situation.loader;
    let expect = async |side: Side, trial: bool, when: &str| {
        let state = loader.state(Some(running)).await?;
        if state.side == Some(side) && state.trial == trial {
            return Ok(());
        }
        Err(HandlerError::State(format!(
            "{when}, the boot loader says {}",
            state.says
        )))
    };
    let tried = match loader.try_next(running.other()).await {
        Ok(()) => expect(running.other(), true, "after the preparation of a trial").await,
        Err(error) => Err(error.into()),
    };
    // whatever came of it, nothing of it may stay
    loader.go_back(running).await?;
    tried?;
    expect(running, false, "after the way back").await
}
