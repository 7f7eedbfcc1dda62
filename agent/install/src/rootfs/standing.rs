//! How the pair of slots stands outside a deployment: what runs, what the bootloader is about to boot, and whose image
//! the running slot holds. Looks only, but for [`keep_running`].

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ambidex_artifact::Sha256Digest;
use ambidex_platform::fs::{Context as _, FsError};
use sha2::{Digest as _, Sha256};

use super::{Situation, running::Running};
use crate::boot::SlotLoader as _;
use crate::context::{CancelFlag, RootfsConfig};
use crate::handler::HandlerError;

const PIECE_BYTES: usize = 1024 * 1024;

/// See the module's text. Numbers are those that the bootloader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Both slots.
    pub slots: [u32; 2],
    /// The one that is mounted as the root, if it is one of them.
    pub running: Option<u32>,
    /// The device of the running slot.
    pub running_path: Option<PathBuf>,
    /// The one that the bootloader names.
    pub booted: Option<u32>,
    /// The bootloader takes the next boot for a trial.
    pub on_trial: bool,
}

impl Standing {
    /// The slot that does not run.
    #[must_use]
    pub fn other(&self) -> Option<u32> {
        let running = self.running?;
        self.slots.into_iter().find(|slot| *slot != running)
    }
}

/// Looks.
///
/// # Errors
/// When slots or bootloader cannot be made out.
pub async fn standing(config: &RootfsConfig) -> Result<Standing, HandlerError> {
    let situation = Situation::find(config).await?;
    let running = match &situation.running {
        Running::Slot(slot) => Some(slot),
        Running::Foreign(_) | Running::Emulated => None,
    };
    Ok(Standing {
        slots: [situation.slots.a.number, situation.slots.b.number],
        running: running.map(|slot| slot.number),
        running_path: running.map(|slot| slot.path.clone()),
        booted: situation
            .state
            .side
            .map(|side| situation.slots.at(side).number),
        on_trial: situation.state.trial,
    })
}

/// Points the bootloader at the running slot and ends a trial.
///
/// # Errors
/// When the running slot is unknown or the variables cannot be written.
pub async fn keep_running(config: &RootfsConfig) -> Result<(), HandlerError> {
    let situation = Situation::find(config).await?;
    let Running::Slot(slot) = &situation.running else {
        return Err(HandlerError::State(format!(
            "the running root {} is none of the slots",
            situation.running.describe()
        )));
    };
    let side = situation.slots.side(slot);
    Ok(situation.loader.go_back(side).await?)
}

/// Checksum of the first bytes of a slot, which may be mounted: what is read is what a running system sees. Blocks.
///
/// # Errors
/// When the slot is shorter or cannot be read; `None` when cancelled.
pub fn slot_digest(
    slot: &Path,
    bytes: u64,
    cancel: &CancelFlag,
) -> Result<Option<Sha256Digest>, FsError> {
    let mut file = File::open(slot).context("open", slot)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let length = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        file.read_exact(&mut piece[..length])
            .context("read", slot)?;
        hasher.update(&piece[..length]);
        left -= length as u64;
    }
    let digest: [u8; 32] = hasher.finalize().into();
    Ok(Some(Sha256Digest::from(digest)))
}
