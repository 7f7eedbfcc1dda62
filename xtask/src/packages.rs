//! Debian packages: what is missing is installed, or named.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A file on the PATH (or an absolute path) and the package that brings it.
type Need = (&'static str, &'static str);

/// To build the workspace: ring, zstd and SQLite contain C.
const BUILD: &[Need] = &[("cc", "gcc"), ("/usr/include/stdio.h", "libc6-dev")];

/// To build the agent for other architectures, and to try it.
const AARCH64: &[Need] = &[
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    (
        "/usr/aarch64-linux-gnu/include/stdio.h",
        "libc6-dev-arm64-cross",
    ),
    ("qemu-aarch64-static", "qemu-user-static"),
];
const ARMV7: &[Need] = &[
    ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
    (
        "/usr/arm-linux-gnueabihf/include/stdio.h",
        "libc6-dev-armhf-cross",
    ),
    ("qemu-arm-static", "qemu-user-static"),
];

/// To make and run boards of every kind.
const BOARDS: &[Need] = &[
    ("mformat", "mtools"),
    ("sgdisk", "gdisk"),
    ("sfdisk", "fdisk"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("openssl", "openssl"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
];

/// For the board x86_64-grub.
const X86_64_GRUB: &[Need] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    ("grub-mkimage", "grub-common"),
    ("/usr/lib/grub/x86_64-efi/normal.mod", "grub-efi-amd64-bin"),
];

/// For the boards aarch64-uboot and armv7-uboot, whose U-Boot is built from source.
const U_BOOT: &[Need] = &[
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("mkenvimage", "u-boot-tools"),
    ("dpkg-source", "dpkg-dev"),
    ("make", "make"),
    ("bison", "bison"),
    ("flex", "flex"),
    ("bc", "bc"),
    ("xxd", "xxd"),
    ("/usr/include/openssl/ssl.h", "libssl-dev"),
];

/// For the board raspberrypi-tryboot.
const RASPBERRYPI_TRYBOOT: &[Need] = &[
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("fdtput", "device-tree-compiler"),
];

/// Foreign tools and clients that tests run against ours.
const COMPATIBILITY: &[Need] = &[
    ("mender-artifact", "mender-artifact"),
    ("mender-cli", "mender-cli"),
    ("mender", "mender-client"),
    ("mender-connect", "mender-connect"),
    ("dbus-daemon", "dbus-daemon"),
    ("dbus-send", "dbus-bin"),
    ("/usr/lib/python3/dist-packages/dbus", "python3-dbus"),
    ("/usr/lib/python3/dist-packages/gi", "python3-gi"),
    // tokens that keep a key: SoftHSM, and a TPM in software behind its resource manager
    ("softhsm2-util", "softhsm2"),
    ("swtpm", "swtpm"),
    ("tpm2-abrmd", "tpm2-abrmd"),
    ("tpm2_createprimary", "tpm2-tools"),
    ("tpm2_ptool", "libtpm2-pkcs11-tools"),
    (
        "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
        "libtpm2-pkcs11-1",
    ),
    (
        "/usr/lib/x86_64-linux-gnu/libtss2-tcti-swtpm.so.0",
        "libtss2-tcti-swtpm0",
    ),
    (
        "/usr/lib/x86_64-linux-gnu/libtss2-tcti-tabrmd.so.0",
        "libtss2-tcti-tabrmd0",
    ),
    ("script", "bsdutils"),
    ("fw_printenv", "libubootenv-tool"),
    ("grub-editenv", "grub-common"),
    ("unshare", "util-linux"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
];

/// What the stock update modules install with, and what checks them.
const MODULES: &[Need] = &[
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("dpkg-repack", "dpkg-repack"),
    ("rpmbuild", "rpm"),
    ("busybox", "busybox"),
    ("shellcheck", "shellcheck"),
];

/// What disks are made with, from the trees for real images.
const IMAGES: &[Need] = &[("genimage", "genimage"), ("mkdosfs", "dosfstools")];

/// The engines of several instances that share a fleet.
const ENGINES: &[Need] = &[
    ("nats-server", "nats-server"),
    ("python3", "python3-venv"),
    ("initdb", "postgresql"),
];

/// The peers of the install benchmark and what makes their images.
const BENCHMARKS: &[Need] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mkenvimage", "u-boot-tools"),
    ("mksquashfs", "squashfs-tools"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("rauc", "rauc"),
    ("openssl", "openssl"),
];

/// What a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Without these the verb makes no sense.
    Demo,
    /// The board aarch64-uboot; without these there is none.
    BoardAarch64,
    /// The board armv7-uboot, likewise.
    BoardArmv7,
    /// The board raspberrypi-tryboot, likewise.
    BoardRaspberryPi,
    /// The boards of a campaign, those of other architectures included.
    Boards,
    /// The agent for this machine's architecture and for others; without these it cannot be built.
    Agent,
    AgentAarch64,
    AgentArmv7,
    /// Missing ones make tests skip, loudly.
    Test,
    /// Without these there is nobody to compare with.
    Bench,
}

/// Makes sure that the packages are there. `yes` installs without asking.
pub fn ensure(purpose: For, yes: bool) -> Result<()> {
    let needs: Vec<Need> = match purpose {
        For::Demo => [BUILD, BOARDS, X86_64_GRUB].concat(),
        For::BoardAarch64 => [BUILD, BOARDS, AARCH64, U_BOOT].concat(),
        For::BoardArmv7 => [BUILD, BOARDS, ARMV7, U_BOOT].concat(),
        For::BoardRaspberryPi => [BUILD, BOARDS, AARCH64, RASPBERRYPI_TRYBOOT].concat(),
        For::Boards => [
            BUILD,
            BOARDS,
            X86_64_GRUB,
            AARCH64,
            ARMV7,
            U_BOOT,
            RASPBERRYPI_TRYBOOT,
        ]
        .concat(),
        For::Agent => BUILD.to_vec(),
        For::AgentAarch64 => [BUILD, AARCH64].concat(),
        For::AgentArmv7 => [BUILD, ARMV7].concat(),
        For::Test => [
            BUILD,
            BOARDS,
            X86_64_GRUB,
            AARCH64,
            ARMV7,
            U_BOOT,
            RASPBERRYPI_TRYBOOT,
            COMPATIBILITY,
            MODULES,
            IMAGES,
            ENGINES,
        ]
        .concat(),
        For::Bench => [BUILD, BENCHMARKS].concat(),
    };
    let missing = missing(&needs);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let install = format!("apt-get install -y --no-install-recommends {names}");
    if !has("apt-get") {
        return give_up(
            purpose,
            &format!(
                "this machine lacks what the Debian packages {names} bring, and has no apt-get"
            ),
        );
    }
    if !(yes || in_ci() || agreed(&names)?) {
        return give_up(
            purpose,
            &format!("missing Debian packages: run `{install}` as root, or use --yes"),
        );
    }
    eprintln!("installing {names}");
    // lists may be empty or old; a failing update (one repository down) does not mean the install fails
    let _ = as_root(&["apt-get", "-q", "update"])?.status();
    let mut arguments = vec!["apt-get", "-q", "install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    let status = as_root(&arguments)?.status().context("starting apt-get")?;
    if !status.success() {
        return give_up(purpose, &format!("`{install}` ended with {status}"));
    }
    Ok(())
}

/// A demo cannot go on; tests can, and skip.
fn give_up(purpose: For, reason: &str) -> Result<()> {
    match purpose {
        For::Test => {
            eprintln!("warning: {reason}; tests that need them will be skipped");
            Ok(())
        }
        _ => bail!("{reason}"),
    }
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    needs
        .iter()
        .filter(|(tool, _)| !has(tool))
        .map(|&(_, package)| package)
        .collect()
}

fn has(tool: &str) -> bool {
    if tool.starts_with('/') {
        return Path::new(tool).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .chain(postgresql_programs())
        .any(|folder| folder.join(tool).is_file())
}

/// Debian keeps the programs of each version of PostgreSQL apart and off the PATH.
fn postgresql_programs() -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false")
}

fn agreed(names: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Install the Debian packages {names}? [y/N] ");
    std::io::stderr()
        .flush()
        .context("writing to the terminal")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn as_root(arguments: &[&str]) -> Result<Command> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("asking for the user id")?;
    let root = output.stdout.trim_ascii() == b"0";
    let mut command = if root {
        Command::new("env")
    } else if has("sudo") {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    } else {
        bail!(
            "installing packages needs root: run `{}` as root",
            arguments.join(" ")
        );
    };
    command
        .arg("DEBIAN_FRONTEND=noninteractive")
        .args(arguments);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_tools_are_named() {
        assert_eq!(
            missing(&[
                ("sh", "dash"),
                ("/etc", "base-files"),
                ("no-such-tool", "no-such-package")
            ]),
            ["no-such-package"]
        );
    }
}
