//! What it takes to have boards: the tools of the host, the images, and a place for a few machines at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Board, Kind, Settings};
use crate::{artifact, binaries, child, skip};

/// One more than the cores of the smallest machine the tests are meant for: boards wait for watchdogs and polls.
const BOARDS_AT_A_TIME: usize = 3;

/// A way for a release to be bad (`qemu/rootfs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    KernelPanic,
    Panic,
    Hang,
    NoKernel,
    NoNetwork,
    /// Its health check fails.
    Unhealthy,
    /// Its health check does not end.
    HungCheck,
    /// Flushes of its agent do nothing: the control of the power cuts.
    NoFlush,
}

impl Fault {
    /// Its name for `qemu/rootfs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::KernelPanic => "kernel-panic",
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::NoKernel => "no-kernel",
            Self::NoNetwork => "no-network",
            Self::Unhealthy => "unhealthy",
            Self::HungCheck => "hung-check",
            Self::NoFlush => "no-flush",
        }
    }
}

/// Built images, ready to make boards from.
#[derive(Debug, Clone)]
pub struct Lab {
    kind: Kind,
    /// Of all kinds.
    cache: PathBuf,
    image: PathBuf,
    agent: PathBuf,
}

impl Lab {
    /// Builds (or finds in the cache) the board's image. `None` after a loud skip when the packages cannot
    /// be had, which is an error with `AMBIDEX_REQUIRE_BOARDS=1`.
    pub async fn open_or_skip(kind: Kind) -> Result<Option<Self>> {
        let missing = kind.missing_packages();
        let reason = if !missing.is_empty() {
            format!(
                "the board {} needs the Debian packages {} (cargo xtask test --yes installs them)",
                kind.name(),
                missing.join(" ")
            )
        } else if let Err(error) = stage(kind, "fetch").await {
            format!(
                "what the board {} is made of cannot be downloaded: {error:#}",
                kind.name()
            )
        } else {
            return Self::open(kind).await.map(Some);
        };
        if std::env::var("AMBIDEX_REQUIRE_BOARDS").is_ok_and(|value| value == "1") {
            bail!("{reason}");
        }
        skip(&reason);
        Ok(None)
    }

    /// Builds (or finds in the cache) the board's image.
    pub async fn open(kind: Kind) -> Result<Self> {
        let image = PathBuf::from(stage(kind, "build").await?.trim());
        let cache = image
            .ancestors()
            .nth(3)
            .context("the image's path is too short")?
            .to_owned();
        let agent = PathBuf::from(stage(kind, "agent").await?.trim());
        Ok(Self {
            kind,
            cache,
            image,
            agent,
        })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where this kind's images are.
    fn own_cache(&self) -> PathBuf {
        self.cache.join(self.kind.name())
    }

    /// The factory's disk: release v1 in slot A.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The image of a release for a slot.
    pub async fn rootfs(&self, version: &str, fault: Fault) -> Result<PathBuf> {
        let out = self
            .own_cache()
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
                .env("AMBIDEX_BOARD", self.kind.name())
                .env("AMBIDEX_BOARD_CACHE", &self.cache)
                .env("AGENT", &self.agent),
        )
        .await
        .with_context(|| format!("making the image of release {version}"))?;
        drop(lock);
        Ok(out)
    }

    /// Makes the release and the disk of the factory once more in `cache`, an empty folder, from the kernel, the boot
    /// loader and the agent that are there; returns the image of the release and the disk.
    pub async fn make_again(&self, cache: &Path) -> Result<[PathBuf; 2]> {
        let folder = cache.join(self.kind.name());
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for made in ["kernel", "u-boot"] {
            let there = self.own_cache().join(made);
            if there.exists() {
                std::os::unix::fs::symlink(&there, folder.join(made))
                    .with_context(|| format!("linking to {}", there.display()))?;
            }
        }
        let [rootfs, bootstrap, disk] =
            ["v1.ext4", "bootstrap", "disk"].map(|name| folder.join(name));
        let (release, first, whole) = (rootfs.as_os_str(), bootstrap.as_os_str(), disk.as_os_str());
        for (script, arguments) in [
            ("rootfs", vec!["v1".as_ref(), "none".as_ref(), release]),
            ("bootstrap", vec!["v1".as_ref(), first]),
            ("disk", vec![release, first, whole]),
        ] {
            let mut command = child::command(binaries::repository().join("qemu").join(script));
            command
                .args(arguments)
                .env("AMBIDEX_BOARD", self.kind.name())
                .env("AMBIDEX_BOARD_CACHE", cache)
                .env("AMBIDEX_CLI_BIN", binaries::cli()?)
                .env("AGENT", &self.agent);
            child::run(&mut command)
                .await
                .with_context(|| format!("making a board again: {script}"))?;
        }
        Ok([rootfs, disk])
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
            self.kind.device_type(),
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
        let folder = folder.join("board");
        let board = Board::assemble(folder, self.kind, &self.image, settings, permit).await?;
        self.kind
            .put_firmware(board.folder(), &self.own_cache())
            .await?;
        Ok(board)
    }
}

/// Runs a stage of `qemu/` for a board and returns what it prints.
async fn stage(kind: Kind, name: &str) -> Result<String> {
    const PROFILE: &str = "AMBIDEX_BOARD_AGENT_PROFILE";
    // the one that ships takes ten minutes of a processor to build
    const QUICK: &str = "dev";
    let script = binaries::repository().join("qemu").join(name);
    let mut command = child::command(script);
    command.env("AMBIDEX_BOARD", kind.name());
    if std::env::var_os(PROFILE).is_none() {
        command.env(PROFILE, QUICK);
    }
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
