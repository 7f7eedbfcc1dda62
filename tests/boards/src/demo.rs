//! The demo: a newcomer watches a board update itself, then a bad update roll itself back.
//!
//! Everything is real: the server, the artifacts made by the operator CLI, the agent on an emulated board
//! with its own boot loader. Whatever ends the demo (success, error, Ctrl-C) also ends the board and the
//! server and removes the temporary folder; the images stay cached for the next run.

use std::collections::BTreeSet;
use std::time::Duration;

use ambidex_harness::board::{BOOT_LIMIT, Fault, Kind, Settings};
use ambidex_harness::server::{EMAIL, PASSWORD};
use ambidex_harness::{Api, Board, Lab, Scratch, Server, wait_for};
use anyhow::{Context, Result, bail};

use crate::UPDATE_LIMIT;
use crate::progress::Progress;

const PAUSE: Duration = Duration::from_millis(250);
/// Between two looks at the disk while the image is being written.
const WRITE_REPORT: u32 = 12;

/// Runs the demo until its end or until Ctrl-C. With `keep` server and board go on until Ctrl-C.
pub async fn run(keep: bool) -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listening for SIGTERM")?;
    tokio::select! {
        result = show(keep) => result,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; board and server are stopped, temporary files removed"),
        _ = terminate.recv() => bail!("terminated; board and server are stopped, temporary files removed"),
    }
}

/// Dropping this future anywhere stops what it has started: both processes are killed on drop, and the
/// scratch folder, which outlives them, is removed last. It stays when something went wrong by itself.
async fn show(keep: bool) -> Result<()> {
    let mut scratch = Scratch::new("demo")?;
    let result = acts(&scratch, keep).await;
    if result.is_err() {
        scratch.keep();
    }
    result
}

async fn acts(scratch: &Scratch, keep: bool) -> Result<()> {
    let progress = Progress::start();
    progress.heading("Preparing");
    progress.phase("board image (kernel and tools from Debian packages, cached)");
    let lab = Lab::open(Kind::X86_64Grub).await?;
    progress.phase("artifacts: release v2 (good) and release v3 (its kernel panics)");
    let (good, image) = lab.release(scratch.path(), "v2", Fault::None, None).await?;
    let (bad, _) = lab
        .release(scratch.path(), "v3", Fault::KernelPanic, None)
        .await?;
    for artifact in [&good, &bad] {
        let bytes = std::fs::metadata(artifact)
            .context("asking for the artifact's size")?
            .len();
        progress.detail(&format!(
            "{} ({:.1} MiB)",
            artifact.display(),
            bytes as f64 / 1_048_576.0
        ));
    }

    let server = Server::start(scratch.path()).await?;
    progress.phase(&format!("server at {}, user {EMAIL}", server.url()));
    let api = server.login().await?;
    let mut board = lab
        .board(scratch.path(), Settings::for_server(server.address()))
        .await?;
    board.power_on().await?;
    progress.phase("board powered on (emulated x86-64, UEFI, GRUB)");
    let booted = board.wait_boot().await?;
    progress.phase(&format!(
        "board runs release {} from {}",
        booted.version, booted.root
    ));
    let device = api.accept_next(BOOT_LIMIT).await?;
    progress.phase(&format!(
        "board asked for admission and was accepted as device {device}"
    ));
    wait_for("the board's inventory", BOOT_LIMIT, async || {
        let inventory = api.inventory(&device).await.unwrap_or_default();
        Ok(inventory.contains_key("artifact_name").then_some(()))
    })
    .await?;
    progress.phase("board sent its inventory");

    let mut stage = Stage {
        progress,
        api: &api,
        board: &mut board,
        device: &device,
        console_seen: 0,
    };
    stage.console_seen = stage.board.console_log().len();
    progress.heading("A good update: release v2");
    api.upload(&good, "demo: a good release").await?;
    progress.phase("artifact release-v2 uploaded");
    stage.deploy("release-v2", "success", Some(&image)).await?;
    stage.board.console_settles().await?;
    stage.both_sides().await?;

    progress.heading("A bad update: release v3, whose kernel panics");
    api.upload(&bad, "demo: a release whose kernel panics")
        .await?;
    progress.phase("artifact release-v3 uploaded");
    let deployment = stage.deploy("release-v3", "failure", None).await?;
    let log = wait_for("the deployment log", UPDATE_LIMIT, async || {
        let log = api.deployment_log(&deployment, &device).await?;
        Ok((!log.is_empty()).then_some(log))
    })
    .await?;
    progress.phase("the board reported the failure and sent its log; the last lines:");
    let lines: Vec<&str> = log.lines().collect();
    progress.detail(
        &lines
            .iter()
            .skip(lines.len().saturating_sub(6))
            .copied()
            .collect::<Vec<_>>()
            .join("\n"),
    );
    stage.board.console_settles().await?;
    stage.both_sides().await?;

    progress.heading("Done: one update installed and committed, one rolled back");
    if keep {
        progress.detail(&format!(
            "server   {} (user {EMAIL}, password {PASSWORD})\n\
             device   {device}\n\
             console  socat - UNIX-CONNECT:{}  (root shell; release the console with Ctrl-C)\n\
             files    {}\n\
             Both keep running. Press Ctrl-C to stop and remove everything.",
            server.url(),
            board.console_socket().display(),
            scratch.path().display()
        ));
        std::future::pending::<()>().await;
    }
    progress.detail(
        "Go on:\n\
         cargo xtask demo --keep     the same, with server and board left running to play with\n\
         cargo xtask boards run      the board alone, its console on this terminal\n\
         cargo xtask test            all tests, the power cuts on the board included",
    );
    Ok(())
}

/// What the acts of the demo share.
struct Stage<'a> {
    progress: Progress,
    api: &'a Api,
    board: &'a mut Board,
    device: &'a str,
    console_seen: usize,
}

impl Stage<'_> {
    /// Deploys and shows every change on both sides until the deployment ends as `expected`.
    async fn deploy(
        &mut self,
        release: &str,
        expected: &str,
        image: Option<&std::path::Path>,
    ) -> Result<String> {
        let deployment = self
            .api
            .deploy(&format!("demo {release}"), release, &[self.device])
            .await?;
        self.progress
            .phase(&format!("deployment {deployment} created"));
        let started = std::time::Instant::now();
        let mut last = String::new();
        let mut rounds = 0;
        loop {
            self.show_console();
            let status = self
                .api
                .device_status(&deployment, self.device)
                .await?
                .unwrap_or_default();
            if status != last {
                self.progress.phase(&format!("server: {status}"));
                last.clone_from(&status);
            }
            if status == expected {
                return Ok(deployment);
            }
            if status == "success" || status == "failure" {
                let log = self
                    .api
                    .deployment_log(&deployment, self.device)
                    .await
                    .unwrap_or_default();
                bail!(
                    "the deployment of {release} ended as {status} instead of {expected}; log: {log}"
                );
            }
            if started.elapsed() > UPDATE_LIMIT {
                bail!(
                    "the deployment of {release} is still {status} after {} s",
                    UPDATE_LIMIT.as_secs()
                );
            }
            if let (Some(image), "downloading") = (image, status.as_str()) {
                rounds += 1;
                if rounds % WRITE_REPORT == 0 {
                    let same = self.board.disk().equal_mib(3, image)?;
                    self.progress.phase(&format!(
                        "board: {same} of 64 MiB of slot B hold the new release"
                    ));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// New lines of the console that tell the story: boot loader, panic, boot marker.
    fn show_console(&mut self) {
        let log = self.board.console_log();
        let Some(new) = log.get(self.console_seen..) else {
            return;
        };
        // only whole lines; the rest comes next time
        let Some(end) = new.rfind('\n') else { return };
        let whole = new.get(..=end).unwrap_or_default();
        let mut shown = BTreeSet::new();
        for line in whole.lines().map(str::trim) {
            let told = ["ambidex: ", "Kernel panic", "BOOTED "]
                .iter()
                .find_map(|start| {
                    let at = line.find(start)?;
                    line.get(at..)
                });
            if let Some(text) = told
                && shown.insert(text.to_owned())
            {
                let text = text
                    .strip_prefix("ambidex: ")
                    .map_or_else(|| text.to_owned(), |text| format!("boot loader: {text}"));
                self.progress.phase(&format!("board: {text}"));
            }
        }
        self.console_seen += end + 1;
    }

    /// The state of server and board, side by side.
    async fn both_sides(&mut self) -> Result<()> {
        let installed = self
            .board
            .output("ambidex-agent show-artifact")
            .await?
            .trim()
            .to_owned();
        let root = self
            .board
            .output("sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline")
            .await?
            .trim()
            .to_owned();
        let known = wait_for("the server to know the release", UPDATE_LIMIT, async || {
            let inventory = self.api.inventory(self.device).await?;
            let name = inventory
                .get("artifact_name")
                .and_then(|name| name.as_str())
                .map(str::to_owned);
            Ok(name.filter(|name| *name == installed))
        })
        .await?;
        self.progress.phase("both sides agree:");
        self.progress.detail(&format!(
            "board   runs {installed} from {root}\nserver  shows {known} for device {}",
            self.device
        ));
        Ok(())
    }
}
