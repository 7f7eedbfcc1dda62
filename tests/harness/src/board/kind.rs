//! The kinds of boards: a folder of `qemu/boards` each, whose settings these are the other half of.

use std::path::Path;

use anyhow::{Context, Result};

use super::environment::BootLoader;
use super::firmware;
use super::{copy_sparse, option_value};
use crate::{binaries, child};

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Tells Linux of the chipset's watchdog.
const WATCHDOG_TABLE: &str = "watchdog-table";

/// A tool (or file) and the Debian package it comes from.
type Need = (&'static str, &'static str);

const EVERY_KIND: [Need; 9] = [
    ("mformat", "mtools"),
    ("sgdisk", "gdisk"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("openssl", "openssl"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
];
const X86_64_GRUB: [Need; 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    (OVMF_CODE, "ovmf"),
    ("grub-mkimage", "grub-common"),
    ("/usr/lib/grub/x86_64-efi/normal.mod", "grub-efi-amd64-bin"),
];
const AARCH64: [Need; 4] = [
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    (
        "/usr/aarch64-linux-gnu/include/stdio.h",
        "libc6-dev-arm64-cross",
    ),
];
const ARMV7: [Need; 4] = [
    ("qemu-system-arm", "qemu-system-arm"),
    ("qemu-arm-static", "qemu-user-static"),
    ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
    (
        "/usr/arm-linux-gnueabihf/include/stdio.h",
        "libc6-dev-armhf-cross",
    ),
];
const U_BOOT: [Need; 8] = [
    ("mkenvimage", "u-boot-tools"),
    ("dpkg-source", "dpkg-dev"),
    ("make", "make"),
    ("bison", "bison"),
    ("flex", "flex"),
    ("bc", "bc"),
    ("xxd", "xxd"),
    ("/usr/include/openssl/ssl.h", "libssl-dev"),
];
const RASPBERRYPI_TRYBOOT: [Need; 2] =
    [("fdtput", "device-tree-compiler"), ("debugfs", "e2fsprogs")];

/// Machine, firmware and boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// x86-64, UEFI, GRUB.
    X86_64Grub,
    /// 64-bit ARM, U-Boot with a redundant environment and a counter of trial boots.
    Aarch64Uboot,
    /// The same for 32-bit ARM.
    Armv7Uboot,
    /// 64-bit ARM that boots as a Raspberry Pi by tryboot; its firmware is emulated ([`super::Firmware`]).
    RaspberryPi,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::X86_64Grub,
        Self::Aarch64Uboot,
        Self::Armv7Uboot,
        Self::RaspberryPi,
    ];

    /// The kind with this folder in `qemu/boards`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether both copies of its environment say the same at rest; those of the others are the last state and the
    /// one before.
    pub fn has_equal_copies(self) -> bool {
        self.boot_loader() == Some(BootLoader::Grub)
    }

    /// Its folder in `qemu/boards`.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64Grub => "x86_64-grub",
            Self::Aarch64Uboot => "aarch64-uboot",
            Self::Armv7Uboot => "armv7-uboot",
            Self::RaspberryPi => "raspberrypi-tryboot",
        }
    }

    /// What its agent calls itself (`qemu/settings.sh`).
    pub fn device_type(self) -> &'static str {
        match self {
            Self::X86_64Grub => "qemu-x86_64-grub",
            Self::Aarch64Uboot => "qemu-aarch64-uboot",
            Self::Armv7Uboot => "qemu-armv7-uboot",
            Self::RaspberryPi => "qemu-raspberrypi-tryboot",
        }
    }

    /// A name for a test's folder, short enough for the sockets in it.
    pub fn flow(self, name: &str) -> String {
        match self {
            Self::X86_64Grub => name.to_owned(),
            Self::Aarch64Uboot => format!("arm-{name}"),
            Self::Armv7Uboot => format!("v7-{name}"),
            Self::RaspberryPi => format!("rpi-{name}"),
        }
    }

    /// The partitions of slot A and slot B, those with the root file systems (`qemu/settings.sh`).
    pub fn slots(self) -> [u8; 2] {
        match self {
            Self::X86_64Grub | Self::Aarch64Uboot | Self::Armv7Uboot => [2, 3],
            Self::RaspberryPi => [5, 6],
        }
    }

    /// The numbers by which the boot loader knows slot A and slot B, on its console and in what it stores.
    pub fn boot_numbers(self) -> [u8; 2] {
        [2, 3]
    }

    /// Whether the boot loader keeps variables ([`super::Disk::variables`]); one that does not has its trial in the
    /// restart, so a power cut before it means that there is none.
    pub fn has_environment(self) -> bool {
        self.boot_loader().is_some()
    }

    /// Debian packages that are needed and that this machine lacks.
    pub fn missing_packages(self) -> Vec<&'static str> {
        let own: &[&[Need]] = match self {
            Self::X86_64Grub => &[&X86_64_GRUB],
            Self::Aarch64Uboot => &[&AARCH64, &U_BOOT],
            Self::Armv7Uboot => &[&ARMV7, &U_BOOT],
            Self::RaspberryPi => &[&AARCH64, &RASPBERRYPI_TRYBOOT],
        };
        EVERY_KIND
            .iter()
            .chain(own.iter().copied().flatten())
            .filter(|(tool, _)| {
                if tool.starts_with('/') {
                    !Path::new(tool).exists()
                } else {
                    binaries::find_tool(tool).is_none()
                }
            })
            .map(|&(_, package)| package)
            .collect()
    }

    /// Whose environment is on the first partition; none where `autoboot.txt` is.
    pub(super) fn boot_loader(self) -> Option<BootLoader> {
        match self {
            Self::X86_64Grub => Some(BootLoader::Grub),
            Self::Aarch64Uboot | Self::Armv7Uboot => Some(BootLoader::Uboot),
            Self::RaspberryPi => None,
        }
    }

    /// QEMU's program and the Debian package it comes from.
    pub(super) fn qemu(self) -> Need {
        match self {
            Self::X86_64Grub => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Aarch64Uboot => ("qemu-system-aarch64", "qemu-system-arm"),
            Self::Armv7Uboot => ("qemu-system-arm", "qemu-system-arm"),
            Self::RaspberryPi => (firmware::QEMU, "qemu-system-arm"),
        }
    }

    /// Puts what the firmware needs into the board's folder; `cache` is where the kind's images are.
    pub(super) async fn put_firmware(self, folder: &Path, cache: &Path) -> Result<()> {
        match self {
            Self::X86_64Grub => {
                let script = binaries::repository().join("qemu/boards/x86_64-grub/watchdog-table");
                child::run(child::command(script).arg(folder.join(WATCHDOG_TABLE)))
                    .await
                    .context("making the ACPI table of the watchdog")?;
                copy_sparse(Path::new(OVMF_VARIABLES), &folder.join("variables.fd")).await
            }
            Self::Aarch64Uboot | Self::Armv7Uboot => {
                let built = cache.join("u-boot/u-boot.bin");
                std::fs::copy(&built, folder.join("u-boot.bin"))
                    .with_context(|| format!("copying {}", built.display()))?;
                Ok(())
            }
            Self::RaspberryPi => Ok(()),
        }
    }

    /// QEMU's arguments that hand a file in from outside under a name (`qemu/guest/configure`).
    pub(super) fn hand_in(self, name: &str, file: &str) -> Vec<String> {
        match self {
            Self::X86_64Grub | Self::Aarch64Uboot | Self::RaspberryPi => vec![
                "-fw_cfg".to_owned(),
                format!("name=opt/ambidex/{name},file={file}"),
            ],
            // its kernel cannot read fw_cfg
            Self::Armv7Uboot => vec![
                "-drive".to_owned(),
                format!("if=none,id={name},format=raw,readonly=on,file={file}"),
                "-device".to_owned(),
                format!("virtio-blk-pci,drive={name},serial={name}"),
            ],
        }
    }

    /// QEMU's arguments for machine, firmware and the line that the agent's log takes (character device `log`).
    pub(super) fn machine(self, folder: &Path) -> Vec<String> {
        let in_folder = |name: &str| option_value(&folder.join(name));
        match self {
            Self::X86_64Grub => {
                let kvm = std::env::var("AMBIDEX_BOARD_KVM").is_ok_and(|value| value == "1");
                let (accelerator, cpu) = if kvm { ("kvm", "host") } else { ("tcg", "max") };
                [
                    "-machine",
                    &format!("q35,accel={accelerator}"),
                    "-cpu",
                    cpu,
                    "-drive",
                    &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"),
                    "-drive",
                    &format!(
                        "if=pflash,unit=1,format=raw,file={}",
                        in_folder("variables.fd")
                    ),
                    "-serial",
                    "chardev:log",
                    "-global",
                    "ICH9-LPC.noreboot=false",
                    "-acpitable",
                    &format!("sig=WDAT,rev=1,data={}", in_folder(WATCHDOG_TABLE)),
                ]
                .map(str::to_owned)
                .into()
            }
            Self::Aarch64Uboot => u_boot("gic-version=2", "cortex-a57", folder),
            Self::Armv7Uboot => u_boot("gic-version=2,highmem=off", "cortex-a15", folder),
            // machine and processor are the firmware's
            Self::RaspberryPi => [
                "-device",
                "virtio-serial-pci",
                "-device",
                "virtconsole,chardev=log",
            ]
            .map(str::to_owned)
            .into(),
        }
    }
}

/// QEMU's `virt` with U-Boot as its firmware.
fn u_boot(options: &str, cpu: &str, folder: &Path) -> Vec<String> {
    [
        "-machine",
        &format!("virt,{options},accel=tcg"),
        "-cpu",
        cpu,
        "-bios",
        &folder.join("u-boot.bin").to_string_lossy(),
        // the machine has one serial port
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtconsole,chardev=log",
    ]
    .map(str::to_owned)
    .into()
}
