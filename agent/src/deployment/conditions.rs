//! What must hold on the new software before it is made permanent, besides contact to the server.

use ambidex_platform::process::{self, Command};

use super::scripts::Scripts;
use crate::config::Config;

/// Checks the state scripts' format and runs the health check, if one is configured.
///
/// # Errors
/// What does not hold, for people.
pub async fn check(config: &Config, scripts: &Scripts) -> Result<(), String> {
    scripts
        .check_rootfs_version()
        .map_err(|error| error.to_string())?;
    let Some((program, args)) = config
        .commit
        .health_check
        .as_deref()
        .and_then(<[String]>::split_first)
    else {
        return Ok(());
    };
    log::info!("running the health check {program}");
    let mut command = Command::new(program, config.commit.health_check_timeout);
    for arg in args {
        command = command.arg(arg);
    }
    let exit = process::run(&command, &mut |_, line| log::info!("health check: {line}"))
        .await
        .map_err(|error| format!("the health check did not run: {error}"))?;
    if exit.success() {
        Ok(())
    } else {
        Err(format!("the health check {program} {exit}"))
    }
}
