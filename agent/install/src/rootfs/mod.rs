//! A/B root file systems: the rules of agent-behaviour section 7.2, natively.
//!
//! The running slot is never written to, and read only for an image that comes as a difference to
//! it. Before anything is written, bootloader and kernel must agree on which slot that is; the
//! original slot is stored before the switch, so a rollback can never flip to the wrong one; every
//! call may be repeated.

mod check;
mod detect;
mod incoming;
mod prepare;
mod running;
mod slots;
mod standing;

use std::io::Read;

use ambidex_artifact::{Header, Reader};
use ambidex_delta::ROOTFS_DELTA;
use ambidex_platform::block::{self, Slot};
use ambidex_platform::fs::{self, FsError};
use tokio::runtime::Handle;

use crate::boot::{Loader, SlotLoader, State};
use crate::context::{CancelFlag, InstallContext, Progress, RootfsConfig};
use crate::handler::{HandlerError, Reboot};
use crate::module::Tree;
use crate::sink::Written;
pub use check::check;
use incoming::Incoming;
use running::Running;
use slots::{SlotDevice, Slots};

pub use standing::{Standing, keep_running, slot_digest, standing};

/// Where the number of the slot to go back to is kept; the reference's module uses the same file,
/// so either can finish what the other began.
const ORIGINAL: &str = "orig-part";

/// The built-in handler of root file system images.
#[derive(Debug, Clone)]
pub struct RootfsHandler {
    context: InstallContext,
}

/// Everything known about the pair at one moment.
struct Situation {
    slots: Slots,
    loader: Loader,
    state: State,
    running: Running,
}

/// Why an image could not be brought into the slot.
#[derive(Debug)]
pub(crate) enum DownloadError {
    Artifact(ambidex_artifact::Error),
    Handler(HandlerError),
    TooLarge {
        name: String,
        image: u64,
        slot: std::path::PathBuf,
        bytes: u64,
    },
    Cancelled,
}

impl From<ambidex_artifact::Error> for DownloadError {
    fn from(error: ambidex_artifact::Error) -> Self {
        Self::Artifact(error)
    }
}

impl From<HandlerError> for DownloadError {
    fn from(error: HandlerError) -> Self {
        Self::Handler(error)
    }
}

impl From<FsError> for DownloadError {
    fn from(error: FsError) -> Self {
        Self::Handler(error.into())
    }
}

impl Situation {
    async fn find(config: &RootfsConfig) -> Result<Self, HandlerError> {
        let config = &detect::completed(config);
        let slots = Slots::resolve(config)?;
        let loader = Loader::open(&config.boot, slots.numbers())?;
        let running = Running::find(config, &slots)?;
        let side = match &running {
            Running::Slot(slot) => Some(slots.side(slot)),
            Running::Foreign(_) | Running::Emulated => None,
        };
        let state = loader.state(side).await?;
        Ok(Self {
            slots,
            loader,
            state,
            running,
        })
    }

    /// The slot that the boot loader says is (or will be) booted.
    fn booted(&self) -> Result<&SlotDevice, HandlerError> {
        let side = self.state.side.ok_or_else(|| {
            HandlerError::State(format!(
                "the boot loader ({}) has {}, which is neither {} of {} nor {} of {}; correct rootfs_part_a and rootfs_part_b or what the boot loader has, see ambidex-agent board check",
                self.loader.name(),
                self.state.says,
                self.slots.a.number,
                self.slots.a.path.display(),
                self.slots.b.number,
                self.slots.b.path.display()
            ))
        })?;
        Ok(self.slots.at(side))
    }

    /// Checks that the running system came from the slot that the boot loader names.
    fn check_root(&self) -> Result<&SlotDevice, HandlerError> {
        let booted = self.booted()?;
        let agrees = match &self.running {
            Running::Slot(slot) => slot == booted,
            Running::Emulated => true,
            Running::Foreign(_) => false,
        };
        if agrees {
            return Ok(booted);
        }
        Err(HandlerError::State(format!(
            "the mounted root {} does not match the boot loader environment, which says {} ({}); if the root lies below an overlay or encryption that is not recognised, set running_root",
            self.running.describe(),
            booted.path.display(),
            self.state.says
        )))
    }

    fn refuse_trial(&self) -> Result<(), HandlerError> {
        if self.state.trial {
            return Err(HandlerError::State(format!(
                "{}: an earlier update is still on trial; commit it or roll it back first",
                self.state.says
            )));
        }
        Ok(())
    }
}

impl RootfsHandler {
    pub(crate) fn new(context: InstallContext) -> Self {
        Self { context }
    }

    fn tree(&self) -> Tree {
        Tree::at(&self.context.work_dir)
    }

    async fn situation(&self) -> Result<Situation, HandlerError> {
        Situation::find(&self.context.rootfs).await
    }

    /// The slot to be written and the one that runs, after all checks that must hold before the first byte.
    async fn target(&self) -> Result<(SlotDevice, SlotDevice), HandlerError> {
        let situation = self.situation().await?;
        if let Some(obstacle) = &situation.state.obstacle {
            return Err(HandlerError::State(obstacle.clone()));
        }
        situation.refuse_trial()?;
        let active = situation.check_root()?;
        Ok((situation.slots.other(active).clone(), active.clone()))
    }

    /// Streams the image into the slot that does not run.
    pub(crate) fn download<R: Read>(
        &self,
        reader: &mut Reader<R>,
        handle: &Handle,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<Written, DownloadError> {
        let (target, running) = handle.block_on(self.target())?;
        let is_difference = reader.header().payload.type_name() == Some(ROOTFS_DELTA);
        let one_file = |count: &str| {
            HandlerError::State(format!(
                "an artifact with a root file system has exactly one payload file; this one has {count}"
            ))
        };
        let Some(file) = reader.next_file()? else {
            return Err(one_file("none").into());
        };
        let slot = open_slot(&target)?;
        let mut incoming = Incoming::new(&file, slot, progress, cancel);
        let image = if is_difference {
            incoming.difference(file, &running.path)?
        } else {
            incoming.whole(file)?
        };
        let (slot, written) = incoming.finish()?;
        log::info!(
            "{} holds the image; {} of {} bytes differed and were written",
            target.path.display(),
            written.written_bytes,
            written.image_bytes
        );
        if self.context.rootfs.verify_written {
            crate::sink::verify(&slot, image.bytes, image.sha256, cancel).map_err(|failure| {
                match failure {
                    Some(error) => DownloadError::Handler(error),
                    None => DownloadError::Cancelled,
                }
            })?;
        }
        if reader.next_file()?.is_some() {
            return Err(one_file("several").into());
        }
        Ok(written)
    }

    /// Makes the tree that holds what a rollback needs.
    pub(crate) fn prepare(&self, header: &Header) -> Result<(), FsError> {
        self.tree().create(&self.context, header)
    }

    fn original(&self) -> Result<Option<u32>, FsError> {
        let path = self.tree().tmp().join(ORIGINAL);
        let bytes = fs::read_if_present(&path, 64)?;
        Ok(bytes.and_then(|bytes| String::from_utf8_lossy(&bytes).trim().parse().ok()))
    }

    pub(crate) async fn install(&self) -> Result<(), HandlerError> {
        let situation = self.situation().await?;
        let original = match self
            .original()?
            .and_then(|number| situation.slots.numbered(number))
        {
            // repeated after a power cut: the environment may have been switched already
            Some(original) => original,
            None => {
                situation.refuse_trial()?;
                situation.check_root()?
            }
        };
        let path = self.tree().tmp().join(ORIGINAL);
        fs::create_dir(&self.tree().tmp(), 0o700)?;
        fs::write_durable(&path, format!("{}\n", original.number).as_bytes(), 0o600)?;
        let target = situation.slots.other(original);
        if !matches!(&situation.running, Running::Slot(running) if running == target) {
            let side = situation.slots.side(target);
            prepare::prepare(&self.context.rootfs.boot.prepare_slot, side, &target.path).await?;
        }
        let loader = &situation.loader;
        loader.try_next(situation.slots.side(target)).await?;
        log::info!(
            "the next boot tries {} ({} of {})",
            target.path.display(),
            target.number,
            loader.name()
        );
        if let Some(argument) = loader.reboot_argument() {
            log::info!("only a restart with the argument \"{argument}\" is the trial");
        }
        Ok(())
    }

    /// Restarts unless the right slot is running already, which is so after the rollback of an
    /// update that was never booted.
    pub(crate) async fn needs_reboot(&self) -> Result<Reboot, HandlerError> {
        let situation = self.situation().await?;
        match (&situation.running, situation.booted()) {
            (Running::Slot(running), Ok(booted)) if running == booted && !situation.state.trial => {
                Ok(Reboot::No)
            }
            _ => Ok(Reboot::Automatic),
        }
    }

    /// What the restart is given as its argument, when it is a prepared trial that needs one.
    pub(crate) fn reboot_argument(&self) -> Result<Option<&'static str>, HandlerError> {
        let config = &self.context.rootfs;
        if config.part_a.is_none() || config.part_b.is_none() {
            return Ok(None);
        }
        let numbers = Slots::resolve(config)?.numbers();
        Ok(Loader::open(&config.boot, numbers)?.reboot_argument())
    }

    #[expect(clippy::unused_async, reason = "one signature for all handlers")]
    pub(crate) async fn reboot(&self) -> Result<(), HandlerError> {
        Err(HandlerError::State(
            "rootfs-image leaves the reboot to the agent".to_owned(),
        ))
    }

    #[expect(clippy::unused_async, reason = "one signature for all handlers")]
    pub(crate) async fn rollback_reboot(&self) -> Result<(), HandlerError> {
        Err(HandlerError::State(
            "rootfs-image leaves the reboot to the agent".to_owned(),
        ))
    }

    pub(crate) async fn verify_reboot(&self) -> Result<(), HandlerError> {
        self.check_on_trial(&self.situation().await?).map(|_| ())
    }

    pub(crate) async fn commit(&self) -> Result<(), HandlerError> {
        let situation = self.situation().await?;
        let side = situation.slots.side(self.check_on_trial(&situation)?);
        situation.loader.commit(side).await?;
        Ok(())
    }

    fn check_on_trial<'a>(&self, situation: &'a Situation) -> Result<&'a SlotDevice, HandlerError> {
        if !situation.state.trial {
            return Err(HandlerError::State(format!(
                "no trial is on ({}): the boot loader has gone back to the previous system, the new one did not boot",
                situation.state.says
            )));
        }
        let booted = situation.check_root()?;
        if self.original()? == Some(booted.number) {
            return Err(HandlerError::State(format!(
                "still running the previous system on {}: the device has not booted the new one",
                booted.path.display()
            )));
        }
        Ok(booted)
    }

    #[expect(clippy::unused_async, reason = "one signature for all handlers")]
    pub(crate) async fn supports_rollback(&self) -> Result<bool, HandlerError> {
        Ok(true)
    }

    pub(crate) async fn rollback(&self) -> Result<(), HandlerError> {
        let config = &detect::completed(&self.context.rootfs);
        if config.part_a.is_none() || config.part_b.is_none() {
            // running a system that lost the configuration: only the bootloader can go back, and
            // does so at the next boot, as the trial is not committed
            log::warn!(
                "the slots are not configured here; leaving the rollback to the boot loader"
            );
            return Ok(());
        }
        let situation = self.situation().await?;
        let original = self
            .original()?
            .and_then(|number| situation.slots.numbered(number));
        let target = match original {
            Some(slot) => slot,
            None if situation.state.trial => situation.slots.other(situation.booted()?),
            // the switch never happened
            None => return Ok(()),
        };
        let side = situation.slots.side(target);
        if situation.state.trial || situation.state.side != Some(side) {
            situation.loader.go_back(side).await?;
        }
        log::info!("the next boot uses {} again", target.path.display());
        Ok(())
    }

    pub(crate) async fn verify_rollback_reboot(&self) -> Result<(), HandlerError> {
        let situation = self.situation().await?;
        if situation.state.trial {
            return Err(HandlerError::State(format!(
                "the trial is still on after the rollback: {}",
                situation.state.says
            )));
        }
        situation.check_root()?;
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "one signature for all handlers")]
    pub(crate) async fn failure(&self) -> Result<(), HandlerError> {
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "one signature for all handlers")]
    pub(crate) async fn cleanup(&self) -> Result<(), HandlerError> {
        Ok(fs::remove_tree(self.tree().root())?)
    }
}

/// Opens the target; the kernel's view of what is mounted is the last word.
fn open_slot(target: &SlotDevice) -> Result<Slot, HandlerError> {
    if let Some(place) = block::in_use(&target.path)? {
        return Err(HandlerError::State(format!(
            "{} is mounted on {}; unmount it and keep it from being mounted automatically",
            target.path.display(),
            place.display()
        )));
    }
    Ok(Slot::open(&target.path)?)
}
