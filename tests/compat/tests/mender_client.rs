//! Debian's `mender-client` 3.4, unmodified, as a daemon without privileges: it authenticates, sends
//! inventory and completes a deployment of a module artifact against our server.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ambidex_harness::{
    Api, Scratch, Server,
    binaries::{self, find_tool},
    scratch::flow,
    skip, wait_for,
};
use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

/// The client polls every few seconds; a deployment takes three polls at most.
const LIMIT: Duration = Duration::from_secs(120);
/// `nobody` on Debian.
const UNPRIVILEGED: u32 = 65534;

/// Records its calls and copies the payload to where the test looks for it.
const MODULE: &str = r#"#!/bin/sh
set -e
echo "$1" >> "$MODULE_LOG"
case "$1" in
    NeedsArtifactReboot) echo No ;;
    SupportsRollback) echo Yes ;;
    ArtifactInstall)
        if [ -e "$FAIL_INSTALL" ]; then echo "the module was told to fail" >&2; exit 1; fi
        cp files/* "$MODULE_TARGET" ;;
esac
"#;

/// Stands in for the boot loader tools: this device has no boot loader.
const BOOT_TOOL: &str = "#!/bin/sh\necho \"no boot environment on this device\" >&2\nexit 1\n";

/// A device of the reference client inside a scratch folder.
struct Device {
    root: PathBuf,
    child: Child,
}

impl Device {
    fn start(scratch: &Scratch, server: &Server) -> Result<Self> {
        let root = scratch.join("device");
        for folder in [
            "conf",
            "share/identity",
            "share/inventory",
            "share/modules/v3",
            "state",
            "bin",
            "target",
        ] {
            fs::create_dir_all(root.join(folder))?;
        }
        let conf = serde_json::json!({
            "ServerURL": server.url(),
            "UpdatePollIntervalSeconds": 2,
            "InventoryPollIntervalSeconds": 5,
            "RetryPollIntervalSeconds": 2,
            "DeviceTypeFile": root.join("device_type"),
            "DBus": { "Enabled": false },
        });
        write(&root.join("conf/mender.conf"), &conf.to_string(), 0o644)?;
        write(
            &root.join("conf/artifact_info"),
            "artifact_name=app-0\n",
            0o644,
        )?;
        write(&root.join("device_type"), "device_type=testdev\n", 0o644)?;
        let script = |text: &str| format!("#!/bin/sh\n{text}\n");
        write(
            &root.join("share/identity/mender-device-identity"),
            &script("echo mac=02:00:00:00:00:01; echo serial=7"),
            0o755,
        )?;
        write(
            &root.join("share/inventory/mender-inventory-test"),
            &script("echo kernel=6.1; echo disk=a; echo disk=b"),
            0o755,
        )?;
        write(&root.join("share/modules/v3/recorder"), MODULE, 0o755)?;
        for tool in ["fw_printenv", "fw_setenv"] {
            write(&root.join("bin").join(tool), BOOT_TOOL, 0o755)?;
        }
        // The scratch folder is private to the user of the test.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
        // The client reads its scripts and the name of the factory release from fixed paths; a mount
        // namespace gives it ours without touching this machine's. Root then drops its privileges.
        let root_user = nix::unistd::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !root_user {
            command.args(["--user", "--map-root-user"]);
        }
        command.args([
            "sh",
            "-ec",
            "mount --bind \"$MENDER_CONF_DIR\" /etc/mender; \
             mount --bind \"$MENDER_DATA_DIR\" /usr/share/mender; exec \"$@\"",
            "sh",
        ]);
        if root_user {
            let id = UNPRIVILEGED.to_string();
            command.args([
                "setpriv",
                "--reuid",
                &id,
                "--regid",
                &id,
                "--clear-groups",
                "--",
            ]);
        }
        command
            .args(["mender", "--no-syslog", "--log-level", "debug"])
            .arg("--config")
            .arg(root.join("conf/mender.conf"))
            .arg("--fallback-config")
            .arg(root.join("conf/none.conf"))
            .arg("--data")
            .arg(root.join("state"))
            .arg("daemon")
            .env("MENDER_CONF_DIR", root.join("conf"))
            .env("MENDER_DATA_DIR", root.join("share"))
            .env("MENDER_DATASTORE_DIR", root.join("state"))
            .env("MODULE_LOG", root.join("target/calls"))
            .env("MODULE_TARGET", root.join("target"))
            .env("FAIL_INSTALL", root.join("target/fail"))
            .env(
                "PATH",
                format!(
                    "{}:/usr/sbin:/usr/bin:/sbin:/bin",
                    root.join("bin").display()
                ),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(scratch.join("client.log"))?)
            .kill_on_drop(true);
        if root_user {
            give_away(&root)?;
        }
        let child = command.spawn().context("starting mender")?;
        Ok(Self { root, child })
    }

    fn target(&self, name: &str) -> PathBuf {
        self.root.join("target").join(name)
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.target("calls"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn give_away(path: &Path) -> Result<()> {
    chown(path, Some(UNPRIVILEGED), Some(UNPRIVILEGED))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

async fn module_artifact(scratch: &Scratch, name: &str) -> Result<PathBuf> {
    let payload = scratch.join("payload.txt");
    fs::write(&payload, format!("content of {name}\n"))?;
    let artifact = scratch.join(&format!("{name}.mender"));
    let output = Command::new("mender-artifact")
        .args([
            "write",
            "module-image",
            "-T",
            "recorder",
            "-t",
            "testdev",
            "-n",
            name,
            "-f",
        ])
        .arg(&payload)
        .arg("-o")
        .arg(&artifact)
        .output()
        .await
        .context("starting mender-artifact")?;
    if !output.status.success() {
        bail!(
            "mender-artifact: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(artifact)
}

fn can_run() -> bool {
    let missing: Vec<&str> = ["mender", "mender-artifact"]
        .into_iter()
        .filter(|tool| find_tool(tool).is_none())
        .collect();
    if !missing.is_empty() {
        skip(&format!(
            "not installed: {missing:?} (Debian packages mender-client, mender-artifact)"
        ));
    }
    missing.is_empty()
}

async fn enrol(api: &Api, device: &mut Device) -> Result<String> {
    let id = api.accept_next(LIMIT).await?;
    wait_for("the inventory of the reference client", LIMIT, async || {
        if let Some(status) = device.child.try_wait()? {
            bail!("the client ended with {status}");
        }
        Ok(api
            .inventory(&id)
            .await
            .ok()
            .filter(|found| found.contains_key("kernel")))
    })
    .await?;
    Ok(id)
}

#[test]
fn completes_a_deployment() {
    if !can_run() {
        return;
    }
    flow("mender-client", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut device = Device::start(&scratch, &server)?;
        let id = enrol(&api, &mut device).await?;

        let inventory = api.inventory(&id).await?;
        assert_eq!(inventory["kernel"], "6.1");
        assert_eq!(inventory["disk"], serde_json::json!(["a", "b"]));
        assert_eq!(inventory["mac"], "02:00:00:00:00:01");

        api.upload(&module_artifact(&scratch, "app-1").await?, "")
            .await?;
        let deployment = api.deploy("first", "app-1", &[&id]).await?;
        api.wait_status(&deployment, &id, &["success"], LIMIT)
            .await?;
        assert_eq!(
            fs::read_to_string(device.target("payload.txt"))?,
            "content of app-1\n"
        );
        for call in ["Download", "ArtifactInstall", "ArtifactCommit", "Cleanup"] {
            assert!(
                device.calls().iter().any(|seen| seen == call),
                "{call} was not called: {:?}",
                device.calls()
            );
        }
        let shown = api.deployment(&deployment).await?;
        assert_eq!(shown["status"], "finished");
        Ok(())
    });
}

/// The reference's client leaves a device, and our agent takes its place: configuration, key, scripts and
/// modules stay, and so does what the device is.
#[test]
fn our_agent_takes_its_place() {
    if !can_run() {
        return;
    }
    flow("mender-client-replaced", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut device = Device::start(&scratch, &server)?;
        let id = enrol(&api, &mut device).await?;
        api.upload(&module_artifact(&scratch, "app-1").await?, "")
            .await?;
        let deployment = api.deploy("first", "app-1", &[&id]).await?;
        api.wait_status(&deployment, &id, &["success"], LIMIT)
            .await?;
        device.child.kill().await?;

        let root = device.root.clone();
        let agent = || -> Result<Command> {
            let mut command = Command::new(binaries::agent()?);
            command
                .env("AMBIDEX_CONF_DIR", root.join("conf"))
                .env("AMBIDEX_DATA_DIR", root.join("share"))
                .env("AMBIDEX_STATE_DIR", root.join("state"))
                .env("MODULE_LOG", root.join("target/calls"))
                .env("MODULE_TARGET", root.join("target"))
                .env("FAIL_INSTALL", root.join("target/fail"))
                .stdin(Stdio::null())
                .kill_on_drop(true);
            Ok(command)
        };
        let shown = agent()?.arg("show-provides").output().await?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        for line in ["artifact_name=app-1", "rootfs-image.recorder.version=app-1"] {
            assert!(shown.lines().any(|shown| shown == line), "{shown}");
        }

        let log = fs::File::create(scratch.join("agent.log"))?;
        let mut daemon = agent()?
            .arg("daemon")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting our agent")?;
        api.upload(&module_artifact(&scratch, "app-2").await?, "")
            .await?;
        let deployment = api.deploy("second", "app-2", &[&id]).await?;
        api.wait_status(&deployment, &id, &["success"], LIMIT)
            .await
            .with_context(|| fs::read_to_string(scratch.join("agent.log")).unwrap_or_default())?;
        let devices = api.get("/api/management/v2/devauth/devices").await?;
        assert_eq!(devices.as_array().map(Vec::len), Some(1), "{devices}");
        assert_eq!(devices[0]["auth_sets"].as_array().map(Vec::len), Some(1));
        daemon.kill().await?;
        let shown = agent()?.arg("show-artifact").output().await?;
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "app-2");
        Ok(())
    });
}

#[test]
fn reports_a_failed_deployment_with_its_log() {
    if !can_run() {
        return;
    }
    flow("mender-client-failure", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut device = Device::start(&scratch, &server)?;
        let id = enrol(&api, &mut device).await?;

        fs::write(device.target("fail"), "")?;
        api.upload(&module_artifact(&scratch, "app-2").await?, "")
            .await?;
        let deployment = api.deploy("broken", "app-2", &[&id]).await?;
        api.wait_status(&deployment, &id, &["failure"], LIMIT)
            .await?;
        let log = wait_for("the deployment log", LIMIT, async || {
            let log = api.deployment_log(&deployment, &id).await?;
            Ok((!log.is_empty()).then_some(log))
        })
        .await?;
        assert!(
            log.contains("told to fail"),
            "the log does not name the cause:\n{log}"
        );
        assert!(
            device.calls().iter().any(|call| call == "ArtifactRollback"),
            "{:?}",
            device.calls()
        );
        Ok(())
    });
}
