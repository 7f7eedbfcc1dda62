//! The calls of the update module.
//!
//! Before anything is erased the old content is in `tmp/previous`. From there on the microcontroller can always be
//! brought back, whatever happens to it: its bootloader is in ROM, or at least not in what is written.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::config::{self, ConfigError, Erase, Protocol, Target};
use crate::control::{self, ControlError};
use crate::line::{Line, LineError};
use crate::stm32::{Bootloader, BootloaderError};
use crate::target::{PlanError, plan};
use crate::xmodem::{Sender, TransferError};

/// Where images of committed updates are kept, for bootloaders that cannot read the flash.
const ARCHIVE: &str = "/var/lib/ambidex/serial-mcu";
const ARCHIVE_VARIABLE: &str = "AMBIDEX_SERIAL_MCU_ARCHIVE";
const IMAGE: &str = "firmware.bin";
/// Erasing and writing once more cures what a single block cannot.
const ROUNDS: u32 = 2;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The configuration is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The image goes nowhere.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The port cannot be used.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The microcontroller was not restarted.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The STM32 bootloader did not do as told.
    #[error(transparent)]
    Bootloader(#[from] BootloaderError),
    /// The XMODEM transfer failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {cause}", path = .path.display())]
    File {
        /// Read or write.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// There is nothing to go back to.
    #[error(
        "the previous image is not known: '{0}' was never updated by this module, and its bootloader cannot read"
    )]
    NoPrevious(String),
}

/// One update in its file tree.
pub struct Module {
    tree: PathBuf,
}

impl Module {
    pub fn new(tree: PathBuf) -> Self {
        Self { tree }
    }

    /// Does what a call asks for; what it answers, if it is a question.
    pub fn answer(&self, call: &str) -> Result<Option<&'static str>, ModuleError> {
        match call {
            "NeedsArtifactReboot" => return Ok(Some("No")),
            "SupportsRollback" => {
                let yes = !self.note("sent").exists() || self.note("previous").exists();
                return Ok(Some(if yes { "Yes" } else { "No" }));
            }
            "ArtifactInstall" => self.install()?,
            "ArtifactCommit" => store(&self.note("committed"), &[])?,
            "ArtifactRollback" => self.roll_back()?,
            "Cleanup" => self.clean_up()?,
            _ => {}
        }
        Ok(None)
    }

    fn note(&self, name: &str) -> PathBuf {
        self.tree.join("tmp").join(name)
    }

    fn payload(&self, name: &str) -> PathBuf {
        self.tree.join("files").join(name)
    }

    /// The target that the payload file `target` names.
    fn target(&self) -> Result<(String, Target), ModuleError> {
        let path = self.payload("target");
        let name = if path.exists() {
            let text = load(&path)?;
            Some(String::from_utf8_lossy(&text).trim().to_owned())
        } else {
            None
        };
        Ok(config::load(name.as_deref())?)
    }

    fn archived(&self, name: &str) -> PathBuf {
        let folder = std::env::var_os(ARCHIVE_VARIABLE)
            .map_or_else(|| PathBuf::from(ARCHIVE), PathBuf::from);
        folder.join(format!("{name}.bin"))
    }

    fn install(&self) -> Result<(), ModuleError> {
        let (name, target) = self.target()?;
        let image = load(&self.payload(IMAGE))?;
        let previous = self.note("previous");
        match target.protocol {
            Protocol::Stm32 => {
                let plan = plan(&target, image.len())?;
                self.with_bootloader(&target, |bootloader| {
                    // repeated after a power cut: the first note is the true one
                    if !previous.exists() {
                        store(&previous, &bootloader.read(plan.start, plan.size)?)?;
                    }
                    program(bootloader, &target, &image, false)
                })
            }
            Protocol::Xmodem => {
                let kept = self.archived(&name);
                if !previous.exists() && !self.note("sent").exists() && kept.exists() {
                    store(&previous, &load(&kept)?)?;
                }
                self.transfer(&target, &image)
            }
        }
    }

    fn roll_back(&self) -> Result<(), ModuleError> {
        if !self.note("entered").exists() {
            return Ok(());
        }
        let committed = self.note("committed");
        if committed.exists() {
            std::fs::remove_file(&committed).map_err(file("remove", &committed))?;
        }
        let (name, target) = self.target()?;
        let previous = self.note("previous");
        match target.protocol {
            Protocol::Stm32 if previous.exists() => {
                let content = load(&previous)?;
                self.with_bootloader(&target, |bootloader| {
                    program(bootloader, &target, &content, true)
                })
            }
            Protocol::Xmodem if self.note("sent").exists() => {
                if !previous.exists() {
                    return Err(ModuleError::NoPrevious(name));
                }
                self.transfer(&target, &load(&previous)?)
            }
            // nothing was changed yet, but it may sit in its bootloader
            _ => {
                control::leave(&mut Line::open(&target)?, &target)?;
                Ok(())
            }
        }
    }

    /// Runs the bootloader for what is to be done with it, and the application afterwards, whatever came out.
    fn with_line(
        &self,
        target: &Target,
        work: impl FnOnce(&mut Line) -> Result<(), ModuleError>,
    ) -> Result<(), ModuleError> {
        let mut line = Line::open(target)?;
        store(&self.note("entered"), &[])?;
        let done = control::enter(&mut line, target)
            .map_err(ModuleError::from)
            .and_then(|()| work(&mut line));
        let left = control::leave(&mut line, target);
        done?;
        left?;
        Ok(())
    }

    fn with_bootloader(
        &self,
        target: &Target,
        work: impl FnOnce(&mut Bootloader) -> Result<(), ModuleError>,
    ) -> Result<(), ModuleError> {
        self.with_line(target, |line| {
            let mut bootloader = Bootloader::connect(line, target)?;
            work(&mut bootloader)?;
            // where nothing can reset it, the bootloader has to start the application
            if target.reset.is_none() && target.leave_command.is_none() {
                bootloader.go(target.address.unwrap_or(target.flash_address))?;
            }
            Ok(())
        })
    }

    fn transfer(&self, target: &Target, image: &[u8]) -> Result<(), ModuleError> {
        if image.is_empty() {
            return Err(PlanError::Empty.into());
        }
        self.with_line(target, |line| {
            let sender = Sender::connect(line, target)?;
            store(&self.note("sent"), &[])?;
            Ok(sender.send(image)?)
        })
    }

    fn clean_up(&self) -> Result<(), ModuleError> {
        if !self.note("committed").exists() {
            return Ok(());
        }
        let (name, target) = self.target()?;
        if target.protocol == Protocol::Xmodem {
            let kept = self.archived(&name);
            if let Some(folder) = kept.parent() {
                std::fs::create_dir_all(folder).map_err(file("make", folder))?;
            }
            store(&kept, &load(&self.payload(IMAGE))?)?;
        }
        Ok(())
    }
}

/// Erases and writes; `whole`: the image is all of what is erased.
fn program(
    bootloader: &mut Bootloader,
    target: &Target,
    image: &[u8],
    whole: bool,
) -> Result<(), ModuleError> {
    let plan = plan_of(target, image.len(), whole)?;
    let mut round = 0;
    loop {
        round += 1;
        let mut written = match target.erase {
            Erase::Pages => bootloader.erase(&plan.pages),
            Erase::Mass => bootloader.erase_all(),
        };
        written = written.and_then(|()| bootloader.write(plan.address, image));
        if target.verify {
            written = written.and_then(|()| bootloader.verify(plan.address, image));
        }
        match written {
            Err(error @ (BootloaderError::Different { .. } | BootloaderError::Failed { .. }))
                if round < ROUNDS =>
            {
                eprintln!("serial-mcu: {error}; erasing and writing once more");
            }
            other => return Ok(other?),
        }
    }
}

/// A saved range begins where the erasure begins, an image where the configuration says.
fn plan_of(target: &Target, size: usize, whole: bool) -> Result<crate::target::Plan, PlanError> {
    if whole && target.erase == Erase::Mass {
        let mut target = target.clone();
        target.address = None;
        return plan(&target, size);
    }
    plan(target, size)
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ModuleError {
    let path = path.to_owned();
    move |cause| ModuleError::File {
        action,
        path,
        cause,
    }
}

fn load(path: &Path) -> Result<Vec<u8>, ModuleError> {
    std::fs::read(path).map_err(file("read", path))
}

/// Writes a file in one step, durably.
fn store(path: &Path, content: &[u8]) -> Result<(), ModuleError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || {
        let mut output = File::create(&new)?;
        output.write_all(content)?;
        output.sync_all()?;
        std::fs::rename(&new, path)?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(file("write", path))
}
