//! Starting the bootloader and the application: by control lines of the port or by commands.

use std::process::Command;

use crate::config::{Pin, Target};
use crate::line::{Line, LineError};

/// Why the microcontroller was not restarted.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A control line could not be set.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A command could not be started or failed.
    #[error("the command {command:?} that starts the {what} {outcome}")]
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Bootloader or application.
        what: &'static str,
        /// How it ended.
        outcome: String,
    },
}

/// Starts the bootloader. Without lines and command it has to be running.
pub fn enter(line: &mut Line, target: &Target) -> Result<(), ControlError> {
    if let Some(command) = &target.enter_command {
        run(command, "bootloader")?;
    }
    restart(line, target, true)?;
    if target.enter_command.is_some() || target.reset.is_some() {
        std::thread::sleep(target.boot_time());
    }
    Ok(())
}

/// Starts the application. `false`: there is neither line nor command for it.
pub fn leave(line: &mut Line, target: &Target) -> Result<bool, ControlError> {
    if let Some(command) = &target.leave_command {
        run(command, "application")?;
        return Ok(true);
    }
    restart(line, target, false)?;
    Ok(target.reset.is_some())
}

fn restart(line: &mut Line, target: &Target, bootloader: bool) -> Result<(), LineError> {
    if let Some(boot0) = target.boot0 {
        line.set(boot0, bootloader)?;
    }
    if let Some(reset) = target.reset {
        pulse(line, reset, target)?;
    }
    Ok(())
}

fn pulse(line: &mut Line, reset: Pin, target: &Target) -> Result<(), LineError> {
    line.set(reset, true)?;
    std::thread::sleep(target.reset_time());
    line.set(reset, false)
}

fn run(command: &[String], what: &'static str) -> Result<(), ControlError> {
    let failed = |outcome: String| ControlError::Command {
        command: command.to_vec(),
        what,
        outcome,
    };
    let Some((program, arguments)) = command.split_first() else {
        return Err(failed("is empty".to_owned()));
    };
    // standard output is for answers to the agent
    let output = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|cause| failed(format!("cannot be started: {cause}")))?;
    for text in [&output.stdout, &output.stderr] {
        eprint!("{}", String::from_utf8_lossy(text));
    }
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    Ok(())
}
