//! A server with one accepted board.

use std::path::Path;
use std::time::Duration;

use ambidex_harness::artifact::SigningKey;
use ambidex_harness::board::{BOOT_LIMIT, Kind, Settings, Slot};
use ambidex_harness::{Api, Board, Lab, Server, wait_for};
use anyhow::{Result, ensure};

/// A whole update takes about a minute on an idle machine without KVM; loaded ones are much slower.
pub const UPDATE_LIMIT: Duration = Duration::from_secs(600);

/// A running server, a running board of release v1, and the board's place on the server.
#[derive(Debug)]
pub struct Fleet {
    pub lab: Lab,
    pub server: Server,
    pub api: Api,
    pub board: Board,
    pub device: String,
}

impl Fleet {
    /// Starts both, accepts the board, waits for its inventory. With `verify_key` the board takes signed
    /// artifacts only. `None` after a loud skip when boards cannot be had on this machine.
    pub async fn start(
        kind: Kind,
        folder: &Path,
        verify_key: Option<&SigningKey>,
    ) -> Result<Option<Self>> {
        let Some(lab) = Lab::open_or_skip(kind).await? else {
            return Ok(None);
        };
        let server = Server::start(folder).await?;
        let api = server.login().await?;
        let mut settings = Settings::for_server(server.address());
        if let Some(key) = verify_key {
            settings = settings.with_verify_key(&key.public);
        }
        let mut board = lab.board(folder, settings).await?;
        let booted = board.boot().await?;
        ensure!(
            booted.version == "v1" && booted.root == kind.slot_root(Slot::A),
            "{booted:?}"
        );
        let device = api.accept_next(BOOT_LIMIT).await?;
        wait_for("the board's inventory", BOOT_LIMIT, async || {
            let inventory = api.inventory(&device).await.unwrap_or_default();
            Ok(inventory.contains_key("artifact_name").then_some(()))
        })
        .await?;
        Ok(Some(Self {
            lab,
            server,
            api,
            board,
            device,
        }))
    }

    /// Uploads an artifact and deploys it to the board.
    pub async fn deploy(&self, artifact: &Path, name: &str) -> Result<String> {
        self.api.upload(artifact, "written by a test").await?;
        self.api
            .deploy(&format!("to {name}"), name, &[&self.device])
            .await
    }

    /// Waits until slot B of the disk holds at least `mib` MiB of `image` more than at the start.
    pub async fn wait_written(&self, image: &Path, mib: usize) -> Result<usize> {
        let slot = self.lab.kind().slot_partition(Slot::B);
        let start = self.board.disk().equal_mib(slot, image)?;
        wait_for("the image to be written", UPDATE_LIMIT, async || {
            let now = self.board.disk().equal_mib(slot, image)?;
            Ok((now >= start + mib).then_some(now))
        })
        .await
    }

    /// Waits for the deployment's log; it comes right after the final status.
    pub async fn log_of(&self, deployment: &str) -> Result<String> {
        wait_for("the deployment log", UPDATE_LIMIT, async || {
            let log = self.api.deployment_log(deployment, &self.device).await?;
            Ok((!log.is_empty()).then_some(log))
        })
        .await
    }
}
