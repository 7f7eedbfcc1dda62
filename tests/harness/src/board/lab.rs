//! What it takes to have boards: the tools of the host, the images, and a place for two machines at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Board, OVMF_CODE, Settings};
use crate::{artifact, binaries, child, skip};

/// The board's device type (`qemu/settings.sh`).
pub const DEVICE_TYPE: &str = "qemu-x86_64-grub";
/// One per core of the smallest machine the tests are meant for.
const BOARDS_AT_A_TIME: usize = 2;

/// Tools (or files) and the Debian packages they come from.
const NEEDED: [(&str, &str); 12] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    (OVMF_CODE, "ovmf"),
    ("grub-mkimage", "grub-common"),
    ("/usr/lib/grub/x86_64-efi/normal.mod", "grub-efi-amd64-bin"),
    ("mformat", "mtools"),
    ("sgdisk", "gdisk"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("openssl", "openssl"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("gzip", "gzip"),
];

/// A way for a release to be bad (`qemu/rootfs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    KernelPanic,
    Panic,
    Hang,
    NoKernel,
    NoNetwork,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::KernelPanic => "kernel-panic",
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::NoKernel => "no-kernel",
            Self::NoNetwork => "no-network",
        }
    }
}

/// Debian packages a board needs and this machine lacks.
pub fn missing_packages() -> Vec<&'static str> {
    NEEDED
        .iter()
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

/// Built images, ready to make boards from.
#[derive(Debug, Clone)]
pub struct Lab {
    cache: PathBuf,
    image: PathBuf,
    agent: PathBuf,
}

impl Lab {
    /// Builds (or finds in the cache) the board's image. `None` after a loud skip when the packages cannot
    /// be had, which is an error with `AMBIDEX_REQUIRE_BOARDS=1`.
    pub async fn open_or_skip() -> Result<Option<Self>> {
        let missing = missing_packages();
        let reason = if !missing.is_empty() {
            format!(
                "boards need the Debian packages {} (cargo xtask test --yes installs them)",
                missing.join(" ")
            )
        } else if let Err(error) = stage("fetch", &[]).await {
            format!("the kernel for the boards cannot be downloaded: {error:#}")
        } else {
            return Self::open().await.map(Some);
        };
        if std::env::var("AMBIDEX_REQUIRE_BOARDS").is_ok_and(|value| value == "1") {
            bail!("{reason}");
        }
        skip(&reason);
        Ok(None)
    }

    /// Builds (or finds in the cache) the board's image.
    pub async fn open() -> Result<Self> {
        let image = PathBuf::from(stage("build", &[]).await?.trim());
        let cache = image
            .parent()
            .and_then(Path::parent)
            .context("the image path has no parent")?
            .to_owned();
        let agent = PathBuf::from(stage("agent", &[]).await?.trim());
        Ok(Self {
            cache,
            image,
            agent,
        })
    }

    /// The image of a release for a slot.
    pub async fn rootfs(&self, version: &str, fault: Fault) -> Result<PathBuf> {
        let out = self
            .cache
            .join("images")
            .join(format!("{version}-{}.ext4", fault.name()));
        let path = out.to_str().context("the cache's path is not valid text")?;
        // two tests may want the same release at the same moment
        let lock = File::create(out.with_extension("lock")).context("opening the image's lock")?;
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
            .await?
            .context("locking the image")?;
        child::run(
            child::command(binaries::repository().join("qemu/rootfs"))
                .args([version, fault.name(), path])
                .env("AMBIDEX_BOARD_CACHE", &self.cache)
                .env("AGENT", &self.agent),
        )
        .await
        .with_context(|| format!("making the image of release {version}"))?;
        drop(lock);
        Ok(out)
    }

    /// An artifact `release-VERSION` with that image; returns artifact and image.
    pub async fn release(
        &self,
        folder: &Path,
        version: &str,
        fault: Fault,
        key: Option<&artifact::SigningKey>,
    ) -> Result<(PathBuf, PathBuf)> {
        let image = self.rootfs(version, fault).await?;
        let out = folder.join(format!("release-{version}.mender"));
        artifact::write_rootfs_image(
            &format!("release-{version}"),
            DEVICE_TYPE,
            &image,
            key,
            &out,
        )
        .await?;
        Ok((out, image))
    }

    /// A new board, off, with a pristine disk that holds release v1 in slot A. Waits while too many boards
    /// run on this machine.
    pub async fn board(&self, folder: &Path, settings: Settings) -> Result<Board> {
        let permit = Permit::wait(&self.cache).await?;
        Board::assemble(folder.join("board"), &self.image, settings, permit).await
    }
}

/// Runs a stage of `qemu/` and returns what it prints.
async fn stage(name: &str, arguments: &[&str]) -> Result<String> {
    let script = binaries::repository().join("qemu").join(name);
    let mut command = child::command(script);
    command.args(arguments);
    if name == "build" {
        command.env("AMBIDEX_CLI_BIN", binaries::cli()?);
    }
    child::run(&mut command).await
}

/// A locked file; the lock goes with the process whatever happens.
#[derive(Debug)]
pub(super) struct Permit {
    _lock: File,
}

impl Permit {
    async fn wait(cache: &Path) -> Result<Self> {
        loop {
            for place in 0..BOARDS_AT_A_TIME {
                let path = cache.join(format!("board-{place}.lock"));
                let file =
                    File::create(&path).with_context(|| format!("opening {}", path.display()))?;
                if file.try_lock().is_ok() {
                    return Ok(Self { _lock: file });
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
