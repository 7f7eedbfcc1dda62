//! Row M10 of the agent's acceptance table: the reference's own `rootfs-image` module, which is a shell program since
//! its client 4.0, runs unmodified under our agent. (`agent/install/tests/third_party.rs` calls the modules one by one.)
//!
//! Debian's package is older and has no such file: it is taken from where the reference's packages put it, or from one
//! of the folders that `AMBIDEX_UPSTREAM_MODULES` names, such as `support/modules` in the reference's sources.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use ambidex_harness::{
    Device, Scratch, artifact,
    binaries::find_tool,
    device::{DEVICE_TYPE, VerbOutput},
    scratch::flow,
    skip,
};
use anyhow::{Context as _, Result, ensure};

const MODULES: &str = "/usr/share/mender/modules/v3";
const SLOT_BYTES: usize = 1 << 20;

/// The boot environment as `fw_printenv` shows it and `fw_setenv` changes it.
const PRINT: &str = r#"line="$(grep "^$1=" @ENV@)" || { echo "Error: $1 not defined" >&2; exit 1; }
echo "$line""#;
const SET: &str = r#"if [ "$1" = -s ]; then cat; else echo "$1=$2"; fi | while read -r line; do
    grep -v "^${line%%=*}=" @ENV@ > @ENV@.new
    echo "$line" >> @ENV@.new
    mv @ENV@.new @ENV@
done
echo set >> @ENV@.calls"#;
/// Tells which file is the device that `/` is on.
const STAT: &str = r#"for what; do :; done
[ "$what" = / ] && what=@ROOT@
exec @STAT@ -L -c %i "$what""#;

struct Board {
    folder: PathBuf,
    device: Device,
}

impl Board {
    fn new(scratch: &Scratch, module: &Path) -> Result<Board> {
        let folder = scratch.join("board");
        for part in ["bin", "conf", "store"] {
            fs::create_dir_all(folder.join(part))?;
        }
        for slot in ["slot2", "slot3"] {
            fs::write(folder.join(slot), vec![0xA5; SLOT_BYTES])?;
        }
        fs::write(
            folder.join("env"),
            "mender_boot_part=2\nmender_boot_part_hex=2\nupgrade_available=0\nbootcount=0\n\
             mender_check_saveenv_canary=1\nmender_saveenv_canary=1\n",
        )?;
        let parts = serde_json::json!({
            "RootfsPartA": folder.join("slot2"), "RootfsPartB": folder.join("slot3"),
        });
        fs::write(folder.join("conf/mender.conf"), parts.to_string())?;
        fs::write(folder.join("store/mender.conf"), "{}")?;
        let stat = find_tool("stat").context("there is no stat")?;
        for (name, text) in [("fw_printenv", PRINT), ("fw_setenv", SET), ("stat", STAT)] {
            let text = text
                .replace("@ENV@", &folder.join("env").display().to_string())
                .replace("@ROOT@", &folder.join("root").display().to_string())
                .replace("@STAT@", &stat.display().to_string());
            let path = folder.join("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let mut device = Device::new(
            &scratch.join("device"),
            "02:00:00:00:0e:01",
            "http://127.0.0.1:9",
            "rootfs_module = true",
        )?;
        device.add_module("rootfs-image", &fs::read_to_string(module)?)?;
        let path = env::var("PATH").unwrap_or_default();
        let bin = folder.join("bin").display().to_string();
        device.set_variable("PATH", &format!("{bin}:{path}"));
        for (name, part) in [
            ("MENDER_CONF_DIR", "conf"),
            ("MENDER_DATASTORE_DIR", "store"),
        ] {
            device.set_variable(name, &folder.join(part).display().to_string());
        }
        let board = Board { folder, device };
        board.boots(2)?;
        Ok(board)
    }

    /// What a restart does to `/`.
    fn boots(&self, slot: u32) -> Result<()> {
        let root = self.folder.join("root");
        fs::remove_file(&root).ok();
        symlink(self.folder.join(format!("slot{slot}")), root)?;
        Ok(())
    }

    async fn verb(&self, words: &[&str]) -> Result<VerbOutput> {
        let output = self.device.verb(words).await?;
        ensure!(output.code == Some(0), "{words:?}: {output:?}");
        Ok(output)
    }

    /// Part, part in hexadecimal, trial, count.
    fn environment(&self) -> Result<[String; 4]> {
        let text = fs::read_to_string(self.folder.join("env"))?;
        let names = [
            "mender_boot_part",
            "mender_boot_part_hex",
            "upgrade_available",
            "bootcount",
        ];
        Ok(names.map(|name| {
            let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned());
            text.lines().find_map(value).unwrap_or_default()
        }))
    }

    fn holds(&self, slot: u32, image: &[u8]) -> Result<bool> {
        Ok(fs::read(self.folder.join(format!("slot{slot}")))?.starts_with(image))
    }
}

#[test]
fn m10_the_references_image_module_installs_commits_and_rolls_back() {
    let named = env::var_os("AMBIDEX_UPSTREAM_MODULES").unwrap_or_default();
    let module = env::split_paths(&named)
        .chain([PathBuf::from(MODULES)])
        .map(|folder| folder.join("rootfs-image"))
        .find(|path| path.is_file());
    let Some(module) = module else {
        skip(&format!(
            "there is no module rootfs-image in {MODULES} nor where AMBIDEX_UPSTREAM_MODULES says"
        ));
        return;
    };
    flow("reference-rootfs-image", async |scratch| {
        let board = Board::new(&scratch, &module)?;
        let mut artifacts = Vec::new();
        for (number, name) in [(2_u8, "release-2"), (3, "release-3")] {
            let image = vec![number; SLOT_BYTES - 4096];
            let (file, out) = (scratch.join("image"), scratch.join(name));
            fs::write(&file, &image)?;
            artifact::write_rootfs_image(name, DEVICE_TYPE, &file, None, &out).await?;
            artifacts.push((image, out.display().to_string()));
        }
        let (image, file) = &artifacts[0];
        let said = board.verb(&["install", file]).await?.stdout;
        ensure!(said.contains("Installed, but not committed."), "{said}");
        ensure!(said.contains("requested a reboot"), "{said}");
        ensure!(board.holds(3, image)?, "slot 3 does not hold the image");
        ensure!(board.environment()? == ["3", "3", "1", "0"]);
        let calls = fs::read_to_string(board.folder.join("env.calls"))?;
        ensure!(calls.lines().count() == 1, "{calls}");
        board.boots(3)?;
        board.verb(&["commit"]).await?;
        ensure!(board.environment()? == ["3", "3", "0", "0"]);
        ensure!(board.verb(&["show-artifact"]).await?.stdout.trim() == "release-2");

        let (image, file) = &artifacts[1];
        board.verb(&["install", file]).await?;
        ensure!(board.holds(2, image)?, "slot 2 does not hold the image");
        ensure!(board.environment()? == ["2", "2", "1", "0"]);
        board.verb(&["rollback"]).await?;
        ensure!(board.environment()?[..3] == ["3", "3", "0"]);
        ensure!(board.verb(&["show-artifact"]).await?.stdout.trim() == "release-2");
        Ok(())
    });
}
