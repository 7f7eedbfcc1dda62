//! A server, a proxy before it, and an enrolled device behind that.

use std::path::{Path, PathBuf};

use ambidex_harness::{Api, Proxy, Server, wait_for};
use anyhow::{Context, Result};

use crate::{
    Device, Options,
    device::LIMIT,
    images::{image, module_artifact, rootfs_artifact},
};

/// Everything a scenario needs, up and running.
#[derive(Debug)]
pub struct Rig {
    pub server: Server,
    /// Between device and server; the management client goes past it.
    pub proxy: Proxy,
    pub api: Api,
    pub device: Device,
    /// The device's id on the server.
    pub id: String,
    folder: PathBuf,
}

impl Rig {
    /// Starts a server and a device, accepts the device, and waits for its inventory.
    pub async fn start(folder: &Path, options: Options) -> Result<Self> {
        let server = Server::start(folder).await?;
        let proxy = Proxy::start(server.address()).await?;
        let api = server.login().await?;
        let mut device = Device::prepare(folder, proxy.address(), options).await?;
        device.start()?;
        let id = device.enrol(&api).await?;
        Ok(Self {
            server,
            proxy,
            api,
            device,
            id,
            folder: folder.to_owned(),
        })
    }

    /// Uploads an artifact and deploys its release to the device; returns the deployment.
    pub async fn deploy(&self, artifact: &Path, name: &str) -> Result<String> {
        self.api.upload(artifact, "").await?;
        self.api.deploy(name, name, &[&self.id]).await
    }

    /// Deploys `content` as the unsigned root filesystem `name`.
    pub async fn deploy_rootfs(&self, name: &str, content: &[u8]) -> Result<String> {
        let artifact = rootfs_artifact(&self.folder, name, content, None, None).await?;
        self.deploy(&artifact, name).await
    }

    /// Deploys the small module artifact `name` for the update module `recorder`.
    pub async fn deploy_module(&self, name: &str) -> Result<String> {
        let artifact = module_artifact(&self.folder, name, "recorder").await?;
        self.deploy(&artifact, name).await
    }

    /// Waits until the device has ended a deployment as `wanted`.
    pub async fn ends(&self, deployment: &str, wanted: &str) -> Result<()> {
        self.device
            .wait_status(&self.api, deployment, &self.id, wanted)
            .await
    }

    /// The log that the device has sent for a deployment.
    pub async fn deployment_log(&self, deployment: &str) -> Result<String> {
        wait_for("the deployment log", LIMIT, async || {
            let log = self.api.deployment_log(deployment, &self.id).await?;
            Ok((!log.is_empty()).then_some(log))
        })
        .await
        .context("no log on the server")
    }

    /// The factory slot is as it left the factory.
    pub fn factory_slot_is_untouched(&self) -> Result<()> {
        assert!(
            self.device.slot(2)? == image(1, crate::SLOT_BYTES),
            "the running slot was touched"
        );
        Ok(())
    }
}
