//! What stands in the place of a Raspberry Pi's firmware, which QEMU does not have.
//!
//! At every power on and at every reset it decides as the documentation says of the bootloader in a Raspberry Pi's
//! EEPROM: it reads `autoboot.txt`, takes and clears the tryboot flag, reads `config.txt`, kernel, initramfs and
//! command line from the boot partition, and tells in the device tree what it has done. QEMU is started with them, and
//! ends at the guest's next reset.
//!
//! Emulated, and to be known when a test passes: the decision itself; the flag, which a real kernel hands over itself
//! and which here comes through a port of the guest; the machine, which is QEMU's `virt` with its device tree. QEMU
//! flushes its disk when it ends, so a reset leaves nothing unflushed, which a real disk may.
//!
//! The bootloader's configuration is `BOOT_ORDER=0xf1` (the card, again and again) with `BOOT_WATCHDOG_TIMEOUT`:
//! a trial of a partition that cannot be booted ends by a reset, without the flag. Without that timeout the real
//! one tries until the power is cut. `PARTITION_WALK`, off where it is not set, is off.

mod qemu;
mod selection;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

use super::disk::{Disk, FIRST};
use crate::child;
pub use qemu::Wire;
use qemu::{End, Lines};
pub(super) use selection::{Selection, select};

pub(super) const QEMU: &str = "qemu-system-aarch64";
const MACHINE: &str = "virt,gic-version=2";
const CPU: &str = "cortex-a57";
/// How far partitions are looked at for one that can be booted.
const PARTITION_MAX: u8 = 8;

/// The firmware and the machine under it.
#[derive(Debug)]
pub struct Firmware {
    disk: Disk,
    folder: PathBuf,
    /// Of QEMU: everything but machine, kernel, and what the kernel is told.
    arguments: Vec<String>,
    wire: Wire,
}

/// What is started, as files in the firmware's folder.
#[derive(Debug)]
struct Loaded {
    partition: u8,
    initramfs: bool,
    cmdline: String,
}

impl Firmware {
    /// The machine's disk is what QEMU's `arguments` have as a disk; files and sockets go to `folder`.
    pub fn new(disk: Disk, folder: &Path, arguments: Vec<String>, wire: Wire) -> Self {
        Self {
            disk,
            folder: folder.to_owned(),
            arguments,
            wire,
        }
    }

    /// From power on until the guest switches itself off or `power` is cut, which kills QEMU. What goes wrong is said
    /// on the console, too.
    pub async fn run(mut self, mut power: oneshot::Receiver<()>) -> Result<()> {
        let result = self.starts(&mut power).await;
        if let Err(error) = &result {
            let _ = self.wire.say(&format!("firmware: {error:#}")).await;
        }
        result
    }

    async fn starts(&mut self, power: &mut oneshot::Receiver<()>) -> Result<()> {
        let lines = Lines::open(&self.folder)?;
        self.dump_device_tree().await?;
        // it is no file: a power cut takes it
        let mut tryboot = false;
        loop {
            let loaded = match self.load(tryboot).await {
                Ok(loaded) => loaded,
                Err(error) if tryboot => {
                    let words = format!("firmware: {error}; reset by the boot watchdog");
                    self.wire.say(&words).await?;
                    tryboot = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.describe(&loaded, tryboot).await?;
            let words = format!(
                "ambidex: booting slot {} tryboot={}",
                loaded.partition,
                u8::from(tryboot)
            );
            self.wire.say(&words).await?;
            // a power cut has been waiting for this moment
            let Some(end) = self.start(&loaded, &lines, power).await? else {
                return Ok(());
            };
            match end {
                End::Reset { argument } => tryboot = argument == "0 tryboot",
                End::Off => return Ok(()),
            }
        }
    }

    /// Decides what to boot and reads it.
    async fn load(&self, tryboot: bool) -> Result<Loaded> {
        let autoboot = self.disk.fat_file(FIRST, "autoboot.txt").await;
        let selection = select(&autoboot.unwrap_or_default(), tryboot);
        let (partition, text) = self.bootable(selection).await?;
        let config = selection::config(&String::from_utf8_lossy(&text), tryboot);
        let read = async |file: &str| {
            let content = self.disk.fat_file(partition, file).await;
            content.with_context(|| not_bootable(partition, file))
        };
        let cmdline = read(&config.cmdline).await?;
        let mut files = vec![("kernel", config.kernel)];
        files.extend(config.initramfs.map(|name| ("initramfs", name)));
        for (kind, name) in &files {
            let path = self.folder.join(kind);
            std::fs::write(&path, read(name).await?)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Loaded {
            partition,
            initramfs: files.len() > 1,
            cmdline: String::from_utf8_lossy(&cmdline).trim().to_owned(),
        })
    }

    /// The partition to boot and the text in it that says what to start.
    async fn bootable(&self, selection: Selection) -> Result<(u8, Vec<u8>)> {
        if let Some(partition) = selection.partition {
            let text = self.disk.fat_file(partition, selection.config).await;
            let text = text.with_context(|| not_bootable(partition, selection.config))?;
            return Ok((partition, text));
        }
        for partition in FIRST..=PARTITION_MAX {
            if let Ok(text) = self.disk.fat_file(partition, selection.config).await {
                return Ok((partition, text));
            }
        }
        bail!(
            "no partition can be booted: none has a {}",
            selection.config
        );
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// Asks QEMU for the device tree of its machine.
    async fn dump_device_tree(&self) -> Result<()> {
        let machine = format!(
            "{MACHINE},dumpdtb={}",
            super::option_value(&self.folder.join("machine.dtb"))
        );
        child::run(child::command(QEMU).args([
            "-machine",
            &machine,
            "-cpu",
            CPU,
            "-display",
            "none",
            "-nodefaults",
        ]))
        .await
        .context("asking QEMU for its device tree (Debian package qemu-system-arm)")?;
        Ok(())
    }

    /// Tells the kernel in the device tree what was booted and how.
    async fn describe(&self, loaded: &Loaded, tryboot: bool) -> Result<()> {
        let tree = self.file("device-tree.dtb");
        std::fs::copy(self.folder.join("machine.dtb"), &tree)
            .with_context(|| format!("writing {tree}"))?;
        for (property, value) in [
            ("partition", loaded.partition),
            ("tryboot", u8::from(tryboot)),
        ] {
            child::run(
                child::command("fdtput")
                    .args(["-p", "-t", "u", &tree, "/chosen/bootloader", property])
                    .arg(value.to_string()),
            )
            .await
            .context("changing the device tree (Debian package device-tree-compiler)")?;
        }
        Ok(())
    }

    /// Starts QEMU and waits for its end; `None` when the power was cut.
    async fn start(
        &self,
        loaded: &Loaded,
        lines: &Lines,
        power: &mut oneshot::Receiver<()>,
    ) -> Result<Option<End>> {
        let errors = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("qemu.err"))
            .context("opening the file for QEMU's messages")?;
        let machine = format!("{MACHINE},accel=tcg");
        let (input, output) = self.wire.ends()?;
        let mut command = self.wire.command(QEMU);
        command
            .args(["-machine", &machine, "-cpu", CPU, "-no-reboot"])
            .args(&self.arguments)
            .args(lines.arguments())
            .args(["-kernel", &self.file("kernel")])
            .args(["-dtb", &self.file("device-tree.dtb")])
            .args(["-append", &loaded.cmdline]);
        if loaded.initramfs {
            command.args(["-initrd", &self.file("initramfs")]);
        }
        let mut qemu = command
            .stdin(input)
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {QEMU} (Debian package qemu-system-arm)"))?;
        tokio::select! {
            end = lines.end(&mut qemu) => return end.map(Some),
            // also when nobody is left who could cut it
            _ = power => {}
        }
        qemu.kill().await.context("killing QEMU")?;
        Ok(None)
    }
}

fn not_bootable(partition: u8, file: &str) -> String {
    format!("partition {partition} cannot be booted: its {file} cannot be read")
}
