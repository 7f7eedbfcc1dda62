//! Bad input, by hand: each ends in an error that names the thing and the remedy, with the running slot
//! and the boot environment as they were, and the device able to take the next good artifact.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use ambidex_harness::{artifact::SigningKey, binaries::find_tool, scratch::flow, skip};
use ambidex_test_scenario::{Device, Options, Rig, SLOT_BYTES, image, rootfs_artifact};
use anyhow::{Context, Result};

fn nowhere() -> SocketAddr {
    // Port 9 (discard): nobody listens there on a test machine, and nothing here needs a server.
    SocketAddr::from(([127, 0, 0, 1], 9))
}

/// Installs `artifact`, which must be refused with all of `words`; then a good one must work.
async fn refuse(device: &Device, folder: &Path, artifact: &Path, words: &[&str]) -> Result<()> {
    let output = device
        .agent(&["install", &artifact.display().to_string()])
        .await?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{said}");
    assert_eq!(
        output.status.code(),
        Some(1),
        "the exit code is wrong; it said:\n{said}"
    );
    let lower = said.to_lowercase();
    for word in words {
        assert!(
            lower.contains(&word.to_lowercase()),
            "'{word}' is missing in:\n{said}"
        );
    }
    untouched(device)?;
    if device.path("conf/agent.toml").exists() {
        install_good(device, folder).await?;
    }
    Ok(())
}

fn untouched(device: &Device) -> Result<()> {
    assert_eq!(
        device.environment()?,
        (2, 0),
        "the boot environment was changed"
    );
    assert!(
        device.slot(2)? == image(1, SLOT_BYTES),
        "the running slot was touched"
    );
    Ok(())
}

async fn install_good(device: &Device, folder: &Path) -> Result<()> {
    let key = folder.join("trusted.key");
    let key = key.exists().then(|| SigningKey {
        private: key,
        public: folder.join("trusted.pub"),
    });
    let good = rootfs_artifact(
        folder,
        "release-9",
        &image(9, SLOT_BYTES),
        key.as_ref(),
        None,
    )
    .await?;
    let output = device
        .agent(&["install", &good.display().to_string()])
        .await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(0),
        "the next good artifact was refused:\n{said}"
    );
    assert_eq!(device.environment()?, (3, 1));
    let output = device.agent(&["rollback"]).await?;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    untouched(device)
}

async fn device(folder: &Path) -> Result<Device> {
    Device::prepare(folder, nowhere(), Options::default()).await
}

#[test]
fn a_truncated_artifact() {
    flow("truncated", async |scratch| {
        let device = device(scratch.path()).await?;
        let good = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            None,
            None,
        )
        .await?;
        let content = fs::read(&good)?;
        let cut = scratch.join("cut.mender");
        for length in [0, 100, 1024, 3000, content.len() / 2, content.len() - 9000] {
            fs::write(&cut, &content[..length])?;
            let output = device
                .agent(&["install", &cut.display().to_string()])
                .await?;
            let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
            assert_eq!(output.status.code(), Some(1), "cut at {length}: {said}");
            assert!(
                said.contains("cut.mender"),
                "cut at {length}: the file is not named in {said}"
            );
            let told = ["truncated", "ends", "not a single byte"]
                .iter()
                .any(|word| said.contains(word));
            assert!(told, "cut at {length}: the cause is not named in {said}");
            untouched(&device)?;
        }
        install_good(&device, scratch.path()).await
    });
}

#[test]
fn a_corrupted_artifact() {
    flow("corrupted", async |scratch| {
        let device = device(scratch.path()).await?;
        let good = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            None,
            None,
        )
        .await?;
        let mut content = fs::read(&good)?;
        let middle = content.len() / 2;
        content[middle] ^= 1;
        let bad = scratch.join("bad.mender");
        fs::write(&bad, content)?;
        refuse(&device, scratch.path(), &bad, &["bad.mender"]).await
    });
}

#[test]
fn something_that_is_no_artifact() {
    flow("no-artifact", async |scratch| {
        let device = device(scratch.path()).await?;
        let bad = scratch.join("photo.mender");
        fs::write(&bad, image(7, 100_000))?;
        refuse(&device, scratch.path(), &bad, &["photo.mender"]).await
    });
}

#[test]
fn a_missing_file() {
    flow("missing", async |scratch| {
        let device = device(scratch.path()).await?;
        refuse(
            &device,
            scratch.path(),
            &scratch.join("none.mender"),
            &["none.mender"],
        )
        .await
    });
}

#[test]
fn an_artifact_signed_by_another_key() {
    flow("other-key", async |scratch| {
        let trusted = SigningKey::generate(scratch.path(), "trusted").await?;
        let other = SigningKey::generate(scratch.path(), "other").await?;
        let options = Options {
            verify_keys: vec![trusted.public.clone()],
            ..Options::default()
        };
        let device = Device::prepare(scratch.path(), nowhere(), options).await?;
        let bad = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            Some(&other),
            None,
        )
        .await?;
        refuse(&device, scratch.path(), &bad, &["signature"]).await
    });
}

#[test]
fn an_artifact_for_another_device_type() {
    flow("other-device", async |scratch| {
        let device = device(scratch.path()).await?;
        let bad = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            None,
            Some("toaster"),
        )
        .await?;
        refuse(&device, scratch.path(), &bad, &["toaster", "scenario"]).await
    });
}

#[test]
fn an_image_larger_than_the_slot() {
    flow("larger", async |scratch| {
        let device = device(scratch.path()).await?;
        let bytes = SLOT_BYTES + 4096;
        let bad =
            rootfs_artifact(scratch.path(), "release-2", &image(2, bytes), None, None).await?;
        refuse(
            &device,
            scratch.path(),
            &bad,
            &["slot3", &bytes.to_string(), &SLOT_BYTES.to_string()],
        )
        .await
    });
}

/// Mounts a small file system; `None` where that is not allowed.
fn small_disk(folder: &Path, bytes: u32) -> Result<Option<Mounted>> {
    let target = folder.join("small");
    fs::create_dir_all(&target)?;
    let mounted = find_tool("mount").is_some()
        && nix::unistd::geteuid().is_root()
        && Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&target)
            .status()
            .context("starting mount")?
            .success();
    Ok(mounted.then_some(Mounted(target)))
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk() {
    flow("full-disk", async |scratch| {
        let Some(disk) = small_disk(scratch.path(), 256 * 1024)? else {
            skip("mounting a small file system needs root");
            return Ok(());
        };
        let state = disk.0.join("state");
        let options = Options {
            state_dir: Some(state.clone()),
            ..Options::default()
        };
        let device = Device::prepare(scratch.path(), nowhere(), options).await?;
        let shown = device.agent(&["show-artifact"]).await?;
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "release-1");
        // Fill what is left.
        let filler = disk.0.join("filler");
        let mut left = 256 * 1024;
        let mut content = Vec::new();
        while left > 0 {
            content.resize(content.len() + left, b'x');
            if fs::write(&filler, &content).is_err() {
                content.truncate(fs::metadata(&filler)?.len() as usize);
                left /= 2;
            }
        }
        let good = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            None,
            None,
        )
        .await?;
        let output = device
            .agent(&["install", &good.display().to_string()])
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("space") && said.contains("small"),
            "the full disk is not named:\n{said}"
        );
        untouched(&device)?;
        // Nothing is lost: once there is room again, all is as before.
        fs::remove_file(&filler)?;
        let shown = device.agent(&["show-artifact"]).await?;
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "release-1");
        install_good(&device, scratch.path()).await
    });
}

#[test]
fn an_unwritable_data_directory() {
    flow("unwritable", async |scratch| {
        let Some(disk) = small_disk(scratch.path(), 1 << 20)? else {
            skip("mounting a read-only file system needs root");
            return Ok(());
        };
        let device_state = disk.0.join("state");
        let options = Options {
            state_dir: Some(device_state.clone()),
            ..Options::default()
        };
        let mut device = Device::prepare(scratch.path(), nowhere(), options).await?;
        let remounted = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&disk.0)
            .status()?;
        assert!(remounted.success(), "remounting failed");
        let good = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            None,
            None,
        )
        .await?;
        let output = device
            .agent(&["install", good.to_str().context("path")?])
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let state = device_state.display().to_string().to_lowercase();
        assert!(
            said.contains("read-only") && said.contains(&state),
            "the directory is not named:\n{said}"
        );
        untouched(&device)?;

        // The daemon stays up, so that it works again as soon as the directory does.
        device.start()?;
        ambidex_harness::wait_for(
            "a complaint",
            std::time::Duration::from_secs(30),
            async || {
                let log = device.log().to_lowercase();
                Ok((log.contains("read-only") && log.contains(&state)).then_some(()))
            },
        )
        .await?;
        untouched(&device)?;
        device.stop().await
    });
}

/// R9: told to the server, and nothing is begun; once the directory is writable the next update works.
#[test]
fn r9_a_deployment_while_the_data_directory_is_read_only() {
    flow("read-only", async |scratch| {
        let Some(disk) = small_disk(scratch.path(), 1 << 20)? else {
            skip("mounting a read-only file system needs root");
            return Ok(());
        };
        // while the daemon is down: nothing may be open for writing
        let remount = |how: &str| -> Result<()> {
            let status = Command::new("mount")
                .args(["-o", &format!("remount,{how}")])
                .arg(&disk.0)
                .status()?;
            assert!(status.success(), "remounting {how} failed");
            Ok(())
        };
        let options = Options {
            state_dir: Some(disk.0.join("state")),
            ..Options::default()
        };
        let mut rig = Rig::start(scratch.path(), options).await?;
        let factory = rig.device.slot(3)?;
        rig.device.stop().await?;
        remount("ro")?;
        rig.device.start()?;
        let deployment = rig
            .deploy_rootfs("release-2", &image(2, SLOT_BYTES))
            .await?;
        rig.ends(&deployment, "failure").await?;
        untouched(&rig.device)?;
        assert!(rig.device.slot(3)? == factory, "the image was written");

        rig.device.stop().await?;
        remount("rw")?;
        rig.device.start()?;
        let deployment = rig
            .deploy_rootfs("release-3", &image(3, SLOT_BYTES))
            .await?;
        rig.ends(&deployment, "success").await?;
        rig.device.stop().await
    });
}

#[test]
fn a_dead_server() {
    flow("dead-server", async |scratch| {
        let mut device = device(scratch.path()).await?;
        device.start()?;
        let log = ambidex_harness::wait_for(
            "a complaint",
            std::time::Duration::from_secs(30),
            async || {
                let log = device.log().to_lowercase();
                Ok(log.contains("refused").then_some(log))
            },
        )
        .await?;
        assert!(
            log.contains("127.0.0.1:9"),
            "the server is not named:\n{log}"
        );
        untouched(&device)?;
        device.stop().await
    });
}

#[test]
fn a_wrong_clock_is_told_from_a_wrong_certificate() {
    if find_tool("openssl").is_none() {
        return skip("openssl is not installed (Debian package openssl)");
    }
    flow("tls-validity", async |scratch| {
        // A certificate that begins tomorrow is what a device with a clock in the past sees.
        let (key, certificate) = (scratch.join("tls.key"), scratch.join("tls.crt"));
        let config = scratch.join("ca.cnf");
        let folder = scratch.path().display();
        fs::write(
            &config,
            format!(
                "[ca]\ndefault_ca=this\n[this]\nnew_certs_dir={folder}\ndatabase={folder}/index\n\
                 serial={folder}/serial\ndefault_md=sha256\npolicy=any\nx509_extensions=ext\n\
                 [any]\ncommonName=supplied\n[ext]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:true\n\
                 [req]\ndistinguished_name=dn\n[dn]\n"
            ),
        )?;
        fs::write(scratch.join("index"), "")?;
        fs::write(scratch.join("serial"), "01\n")?;
        let made = Command::new("sh")
            .current_dir(scratch.path())
            .arg("-ec")
            .arg(
                "openssl req -config ca.cnf -newkey rsa:2048 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr\n\
                 openssl ca -config ca.cnf -batch -selfsign -keyfile tls.key -in tls.csr -out tls.crt -notext \
                 -startdate 20990101000000Z -enddate 20991231000000Z",
            )
            .output()?;
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let options = [
            "--tls-cert".to_owned(),
            certificate.display().to_string(),
            "--tls-key".to_owned(),
            key.display().to_string(),
        ];
        let server = ambidex_harness::Server::start_with(
            scratch.path(),
            &options.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
        // The harness itself cannot talk to such a server; the agent's view is what counts.
        let address = match server {
            Ok(ref server) => server.address(),
            Err(ref error) => {
                eprintln!("{error:#}");
                skip("the harness cannot start a server whose certificate is not valid yet");
                return Ok(());
            }
        };
        let mut device = Device::prepare(
            scratch.path(),
            address,
            Options {
                settings: format!(
                    "server_certificate = {:?}",
                    certificate.display().to_string()
                ),
                ..Options::default()
            },
        )
        .await?;
        let toml = fs::read_to_string(device.path("conf/agent.toml"))?;
        fs::write(
            device.path("conf/agent.toml"),
            toml.replace("http://", "https://"),
        )?;
        device.start()?;
        let log = ambidex_harness::wait_for(
            "a complaint",
            std::time::Duration::from_secs(30),
            async || {
                let log = device.log().to_lowercase();
                Ok(log.contains("clock").then_some(log))
            },
        )
        .await?;
        assert!(log.contains("certificate"), "{log}");
        device.stop().await
    });
}
