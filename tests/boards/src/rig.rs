//! What a campaign works with: a running server, a running board that it has accepted, releases, and what the board is
//! known to hold. Flows run on one rig one after the other; each leaves the board at rest on a known release.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ambidex_harness::artifact::{self, SigningKey};
use ambidex_harness::board::{BOOT_LIMIT, Booted, Fault, Kind, Settings, Slot};
use ambidex_harness::{Api, Lab, Server, wait_for};
use anyhow::{Context, Result, ensure};

use crate::dut::{Dut, HardwareFile, SerialBoard};

/// A whole update takes about a minute on an idle machine without KVM; loaded ones are much slower.
pub const UPDATE_LIMIT: Duration = Duration::from_secs(600);
/// Good releases: one more than what two slots and an update need, so that the next one is in neither slot.
pub const VERSIONS: [&str; 4] = ["v1", "v2", "v3", "v4"];
/// Files on the data partition that must survive everything.
const FILES: u32 = 12;

/// Which board.
#[derive(Debug, Clone)]
pub enum Target {
    /// An emulated one, whose disk loses what was not flushed when the power is cut; a seed says what.
    Emulated(Kind, u64),
    /// One on the desk.
    Hardware(Box<HardwareFile>),
}

impl Target {
    pub fn kind(&self) -> Result<Kind> {
        match self {
            Self::Emulated(kind, _) => Ok(*kind),
            Self::Hardware(file) => file.kind(),
        }
    }

    /// For the table of results.
    pub fn name(&self) -> &str {
        match self {
            Self::Emulated(kind, _) => kind.name(),
            Self::Hardware(file) => &file.name,
        }
    }
}

/// An update that was begun.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: String,
    pub version: String,
    /// What the slot must hold afterwards.
    pub image: PathBuf,
}

/// See the module.
#[derive(Debug)]
pub struct Rig {
    pub dut: Dut,
    pub server: Server,
    pub api: Api,
    pub device: String,
    pub kind: Kind,
    /// Good releases carry this fault; other than `None` in the control of the power cuts only.
    pub good: Fault,
    lab: Lab,
    folder: PathBuf,
    /// What the board checks signatures with: every artifact is signed.
    key: SigningKey,
    /// What the slots hold, A before B; the names of releases.
    holds: [String; 2],
    /// Index into `holds` of the running one.
    current: usize,
    /// Names and checksums of the files on the data partition.
    files: String,
    uploaded: BTreeSet<String>,
    history: History,
}

/// What the board has been through.
#[derive(Debug, Clone, Copy, Default)]
pub struct History {
    /// Committed updates from slot B to slot A.
    pub returns: usize,
    /// Committed updates to an older release.
    pub downgrades: usize,
}

impl Rig {
    /// Starts both, accepts the board, waits for its inventory, puts files on the data partition. `None` after a loud
    /// skip when boards cannot be had on this machine.
    pub async fn start(target: &Target, folder: &Path) -> Result<Option<Self>> {
        let kind = target.kind()?;
        let Some(lab) = Lab::open_or_skip(kind).await? else {
            return Ok(None);
        };
        let key = SigningKey::generate(folder, "right").await?;
        let (dut, server) = match target {
            Target::Hardware(file) => {
                let server = Server::start_at(folder, file.listen).await?;
                let port = server.address().port().to_string();
                let settings = Settings::for_url(&file.server_url.replace("{port}", &port))
                    .with_verify_key(&key.public);
                let folder = folder.join("board");
                let board =
                    SerialBoard::open(file.as_ref().clone(), &folder, lab.image(), &settings)
                        .await?;
                (Dut::Hardware(Box::new(board)), server)
            }
            Target::Emulated(_, seed) => {
                let server = Server::start(folder).await?;
                let settings = Settings::for_server(server.address()).with_verify_key(&key.public);
                let mut board = lab.board(folder, settings).await?;
                board.add_volatile_cache(*seed)?;
                (Dut::Emulated(Box::new(board)), server)
            }
        };
        let api = server.login().await?;
        let mut rig = Self {
            dut,
            server,
            api,
            device: String::new(),
            kind,
            good: Fault::None,
            lab,
            folder: folder.to_owned(),
            key,
            holds: ["v1".to_owned(), String::new()],
            current: 0,
            files: String::new(),
            uploaded: BTreeSet::new(),
            history: History::default(),
        };
        let booted = rig.dut.boot().await?;
        rig.expect("v1", 0, &booted)?;
        rig.device = rig.api.accept_next(BOOT_LIMIT).await?;
        wait_for("the board's inventory", BOOT_LIMIT, async || {
            let inventory = rig.api.inventory(&rig.device).await.unwrap_or_default();
            Ok(inventory.contains_key("artifact_name").then_some(()))
        })
        .await?;
        rig.write_files().await?;
        Ok(Some(rig))
    }

    /// The release that runs.
    pub fn running(&self) -> &str {
        self.holds.get(self.current).map_or("", String::as_str)
    }

    /// The partition of the running slot.
    pub fn current_part(&self) -> u8 {
        self.kind.slots()[self.current]
    }

    /// The number by which the boot loader knows the running slot.
    pub fn current_number(&self) -> u8 {
        self.kind.boot_numbers()[self.current]
    }

    /// The number by which the boot loader knows the other slot.
    pub fn other_number(&self) -> u8 {
        self.kind.boot_numbers()[1 - self.current]
    }

    /// The partition of the other slot, where an update goes.
    pub fn other_part(&self) -> u8 {
        self.kind.slots()[1 - self.current]
    }

    /// Whether slot A runs.
    pub fn in_slot_a(&self) -> bool {
        self.current == 0
    }

    /// A good release that neither slot holds: a torn write of what is there already cannot be seen.
    pub fn fresh_version(&self) -> &'static str {
        VERSIONS
            .into_iter()
            .find(|version| self.holds.iter().all(|held| held != version))
            .unwrap_or("v1")
    }

    /// The image of a good release.
    pub async fn image(&self, version: &str) -> Result<PathBuf> {
        self.lab.rootfs(version, self.good).await
    }

    /// Deploys a release that neither slot holds.
    pub async fn deploy_fresh(&mut self) -> Result<Deployment> {
        self.deploy(self.fresh_version(), self.good).await
    }

    /// Deploys `version`, with a fault; what has been uploaded once is not uploaded again.
    pub async fn deploy(&mut self, version: &str, fault: Fault) -> Result<Deployment> {
        let image = self.lab.rootfs(version, fault).await?;
        let key = self.key.clone();
        self.deploy_image(version, &image, Some(&key), &[]).await
    }

    /// Deploys an image as release `version`, signed or with state scripts.
    pub async fn deploy_image(
        &mut self,
        version: &str,
        image: &Path,
        key: Option<&SigningKey>,
        scripts: &[&Path],
    ) -> Result<Deployment> {
        let release = format!("release-{version}");
        if !self.uploaded.contains(&release) {
            let file = self.folder.join(format!("{release}.mender"));
            let device_type = self.kind.device_type();
            artifact::write_rootfs_image_with(&release, device_type, image, key, scripts, &file)
                .await?;
            self.api.upload(&file, "of a campaign").await?;
            std::fs::remove_file(&file).context("removing the artifact")?;
            self.uploaded.insert(release.clone());
        }
        let name = format!("to {release}");
        let id = self.api.deploy(&name, &release, &[&self.device]).await?;
        Ok(Deployment {
            id,
            version: version.to_owned(),
            image: image.to_owned(),
        })
    }

    /// Waits until the server shows one of these.
    pub async fn wait(&self, deployment: &Deployment, wanted: &[&str]) -> Result<String> {
        self.api
            .wait_status(&deployment.id, &self.device, wanted, UPDATE_LIMIT)
            .await
    }

    /// Waits for the deployment's log; it comes right after the final status.
    pub async fn log_of(&self, deployment: &Deployment) -> Result<String> {
        wait_for("the deployment log", UPDATE_LIMIT, async || {
            let log = self
                .api
                .deployment_log(&deployment.id, &self.device)
                .await?;
            Ok((!log.is_empty()).then_some(log))
        })
        .await
    }

    /// Records that an update was committed: the other slot runs now.
    pub fn committed(&mut self, deployment: &Deployment) {
        self.history.downgrades += usize::from(deployment.version.as_str() < self.running());
        self.history.returns += usize::from(self.current == 1);
        self.current = 1 - self.current;
        self.holds[self.current].clone_from(&deployment.version);
    }

    /// Records that an update has failed: the other slot holds it, or a part of it.
    pub fn rolled_back(&mut self, deployment: &Deployment) {
        self.holds[1 - self.current].clone_from(&deployment.version);
    }

    /// A boot ended with this release from slot A (0) or B (1).
    fn expect(&self, version: &str, slot: usize, booted: &Booted) -> Result<()> {
        let root = format!("/dev/vda{}", self.kind.slots()[slot]);
        ensure!(
            booted.version == version && booted.root == root,
            "{booted:?} instead of {version} from {root}"
        );
        Ok(())
    }

    /// Waits for a boot of the running release.
    pub async fn boots_running(&mut self) -> Result<()> {
        let booted = self.dut.wait_boot().await?;
        self.expect(self.running(), self.current, &booted)
    }

    /// Waits for the first lines of the other slot's release; its agent may not have started yet.
    pub async fn trial_boots(&mut self, deployment: &Deployment) -> Result<()> {
        let booted = self.dut.wait_boot_marker().await?;
        self.expect(&deployment.version, 1 - self.current, &booted)
    }

    /// Switches on and waits for a boot of the running release.
    pub async fn boot(&mut self) -> Result<()> {
        self.dut.power_on().await?;
        self.boots_running().await
    }

    /// The mandatory end of every flow: agent, mounted root and server agree on what runs, nothing on the data partition
    /// was lost.
    pub async fn both_sides_agree(&mut self) -> Result<()> {
        let release = format!("release-{}", self.running());
        let shown = self.dut.output("ambidex-agent show-artifact").await?;
        ensure!(shown.trim() == release, "the agent says it runs {shown:?}");
        let mounted = self.root().await?;
        let root = format!("/dev/vda{}", self.current_part());
        ensure!(mounted == root, "the root is {mounted:?} instead of {root}");
        let what = "the inventory to name the release";
        wait_for(what, UPDATE_LIMIT, async || {
            let inventory = self.api.inventory(&self.device).await?;
            let name = inventory
                .get("artifact_name")
                .and_then(|name| name.as_str());
            Ok((name == Some(&release)).then_some(()))
        })
        .await?;
        let devices = self.api.devices("accepted").await?.len();
        ensure!(devices == 1, "the board has become {devices} devices");
        self.files_are_there().await
    }

    /// The device the system was started from.
    pub async fn root(&mut self) -> Result<String> {
        let command = "sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline";
        Ok(self.dut.output(command).await?.trim().to_owned())
    }

    /// The running slot holds exactly the bytes of `image`.
    pub async fn slot_is(&mut self, image: &Path) -> Result<bool> {
        if let Some(board) = self.dut.emulated() {
            return board.holds(self.current_part(), image);
        }
        let root = self.root().await?;
        let bytes = std::fs::metadata(image)
            .with_context(|| format!("asking for {}", image.display()))?
            .len();
        // against torn writes, not against forgers: the fastest that every board has
        let command = format!("head -c {bytes} {root} | md5sum");
        let on_board = self.dut.output(&command).await?;
        let output = tokio::process::Command::new("md5sum")
            .arg(image)
            .output()
            .await
            .context("starting md5sum")?;
        let of_image = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(on_board.split_whitespace().next() == of_image.split_whitespace().next())
    }

    /// What the boot loader goes by is at rest and selects the running slot. Both copies of an environment are
    /// readable.
    pub async fn environment_at_rest(&mut self) -> Result<()> {
        if self.dut.emulated().is_none() {
            return Ok(());
        }
        self.dut.output("sync").await?;
        let disk = self.dut.inside()?.disk();
        let choice = disk.boot_choice().await?;
        ensure!(
            Some(choice.slot) == Slot::of_number(self.current_number()) && !choice.trial,
            "the boot loader's choice: {choice:?}"
        );
        if !self.kind.has_environment() {
            return Ok(());
        }
        let part = self.current_number().to_string();
        let variables = disk.variables().await?;
        let names = [
            "mender_boot_part",
            "mender_boot_part_hex",
            "upgrade_available",
            "bootcount",
        ];
        let values = names.map(|name| variables.get(name));
        ensure!(
            values == [part.as_str(), part.as_str(), "0", "0"],
            "the environment: {variables:?}"
        );
        for number in [1, 2] {
            let copy = disk.environment(number).await?;
            ensure!(
                !self.kind.has_equal_copies() || (copy == variables && copy.get("editing") == "0"),
                "copy {number} of the environment: {copy:?}"
            );
        }
        Ok(())
    }

    /// Waits until the emulated disk holds at least `mib` MiB more of the image in the other slot.
    pub async fn wait_written(&self, image: &Path, mib: usize) -> Result<()> {
        let (board, part) = (self.dut.inside()?, self.other_part());
        let start = board.equal_mib(part, image)?;
        wait_for("the image to be written", UPDATE_LIMIT, async || {
            Ok((board.equal_mib(part, image)? >= start + mib).then_some(()))
        })
        .await
    }

    /// Fills the other slot with zeros, so that the whole of the next image has to be written.
    pub async fn blank_other_slot(&mut self) -> Result<()> {
        let part = self.other_part();
        let command = format!("dd if=/dev/zero of=/dev/vda{part} bs=1M 2>/dev/null; sync");
        self.dut.output(&command).await?;
        self.holds[1 - self.current].clear();
        Ok(())
    }

    /// Waits for an end of the deployment and records it; what the server says must be what runs, and the slot must hold
    /// exactly that release.
    pub async fn the_truth(&mut self, deployment: &Deployment) -> Result<String> {
        let outcome = self.wait(deployment, &["success", "failure"]).await?;
        let image = if outcome == "success" {
            self.committed(deployment);
            deployment.image.clone()
        } else {
            self.rolled_back(deployment);
            self.image(self.running()).await?
        };
        self.dut.console_settles().await?;
        let version = self.dut.output("cat /etc/board/version").await?;
        ensure!(
            version.trim() == self.running(),
            "the server says {outcome}, the board runs {} instead of {}",
            version.trim(),
            self.running()
        );
        let shown = self.dut.output("ambidex-agent show-artifact").await?;
        ensure!(
            shown.trim() == format!("release-{}", self.running()),
            "the agent says it runs {shown:?}"
        );
        ensure!(
            self.slot_is(&image).await?,
            "the running slot does not hold exactly release {}",
            self.running()
        );
        Ok(outcome)
    }

    async fn write_files(&mut self) -> Result<()> {
        let command = format!(
            "mkdir -p /data/campaign && cd /data/campaign && i=0; while [ $i -lt {FILES} ]; do \
             head -c $((i * i * 900)) /dev/urandom >f$i; i=$((i + 1)); done; cd /; sync"
        );
        self.dut.output(&command).await?;
        self.files = self.sums().await?;
        ensure!(
            self.files.lines().count() > FILES as usize,
            "{}",
            self.files
        );
        Ok(())
    }

    /// One more file that must survive.
    pub async fn write_file(&mut self, name: &str) -> Result<()> {
        let command = format!("echo {name} >/data/campaign/{name} && sync");
        self.dut.output(&command).await?;
        self.files = self.sums().await?;
        Ok(())
    }

    async fn sums(&mut self) -> Result<String> {
        self.dut
            .output("cd /data/campaign && sha256sum * /data/ambidex/*.pem; cd /")
            .await
    }

    /// Every file on the data partition, the device's key among them, is as it was written.
    pub async fn files_are_there(&mut self) -> Result<()> {
        let now = self.sums().await?;
        ensure!(
            now == self.files,
            "files on the data partition are not what they were: {now}, before: {}",
            self.files
        );
        Ok(())
    }

    /// What the board has been through since the start.
    pub fn history(&self) -> History {
        self.history
    }

    /// What good artifacts are signed with.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// A place for the flow's own files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How often the boot loader has started a slot so far.
    pub fn starts(&self) -> usize {
        self.dut.slots_started().len()
    }

    /// The slots that the boot loader has started since then.
    pub fn expect_started(&self, since: usize, wanted: &[u8]) -> Result<()> {
        let started = self.dut.slots_started();
        let new = started.get(since..).unwrap_or_default();
        ensure!(
            new == wanted,
            "slots started: {new:?} instead of {wanted:?}"
        );
        Ok(())
    }

    /// How often the console has shown a text so far.
    pub fn seen(&self, text: &str) -> usize {
        self.dut.console_log().matches(text).count()
    }
}

/// A stop watch for progress lines.
#[derive(Debug, Clone, Copy)]
pub struct Watch(Instant);

impl Watch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
