//! Boot files that lie outside of a slot's root file system: a program of the board brings them there.

use std::path::Path;
use std::time::Duration;

use ambidex_platform::process::{self, Command};

use crate::boot::Side;
use crate::handler::HandlerError;

/// Kernels and device trees are tens of megabytes; slow cards write a megabyte a second.
const TIME_MAX: Duration = Duration::from_secs(900);

/// Calls the program with the slot and its device, if one is configured. Must be done before the boot
/// loader is pointed at the slot.
pub(super) async fn prepare(
    command: &[String],
    side: Side,
    device: &Path,
) -> Result<(), HandlerError> {
    let Some((program, args)) = command.split_first() else {
        return Ok(());
    };
    let mut child = Command::new(program, TIME_MAX);
    child.args = args.iter().map(Into::into).collect();
    child = child.arg(side.letter()).arg(device);
    let mut last = String::new();
    let exit = process::run(&child, &mut |_, line| {
        log::info!("{program}: {line}");
        line.clone_into(&mut last);
    })
    .await
    .map_err(|error| HandlerError::State(format!("prepare_slot: {error}")))?;
    if exit.success() {
        return Ok(());
    }
    Err(HandlerError::State(format!(
        "prepare_slot: {program} {} {} {exit}: {last}",
        side.letter(),
        device.display()
    )))
}
