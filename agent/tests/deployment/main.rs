//! Deployments of the real agent binary: call order, statuses and stored name in every state's failure and death
//! (rows S1-S18, R1-R9, T1-T6, M10, C1-C5 of the acceptance checklist).

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

#[path = "../support/mod.rs"]
mod support;
mod trial;

mod aborts;
mod boot_loaders;
mod deaths;
mod failures;
mod holds;
mod interrupted;
mod limits;
mod normal;
mod order;
mod random;
mod slots;
mod standalone;
mod third_party;

pub const DOWN: &str = "Download_Enter Download Download_Leave";
pub const INSTALL: &str = "Install_Enter Install Install_Leave";
pub const REBOOT: &str = "Reboot_Enter Reboot VerifyReboot Reboot_Leave";
pub const COMMIT: &str = "Commit_Enter Commit Commit_Leave Cleanup";
pub const ROLLBACK: &str = "Rollback_Enter Rollback Rollback_Leave";
pub const BACK: &str =
    "RollbackReboot_Enter RollbackReboot VerifyRollbackReboot RollbackReboot_Leave";
pub const FAILURE: &str = "Failure_Enter Failure Failure_Leave Cleanup";

/// The calls up to and including the reboot's end.
pub fn until_commit() -> String {
    [DOWN, INSTALL, REBOOT].join(" ")
}

pub fn s(parts: &[&str]) -> String {
    parts.join(" ")
}
