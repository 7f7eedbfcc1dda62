//! The Buildroot tree, without Buildroot: its scripts run on a root file system, and what they make is read back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ambidex_harness::{binaries, flow, skip};
use ambidex_test_images::{digest, files_below, output, text};
use anyhow::{Context, Result, ensure};

use crate::yocto::data_partition;

fn tree() -> PathBuf {
    binaries::repository().join("board-support/buildroot")
}

/// The value of an option that is a string by default, with nothing set.
fn defaults() -> Result<String> {
    let mut name = String::new();
    let mut settings = String::new();
    for line in text(&tree().join("Config.in"))?.lines() {
        if let Some(config) = line.strip_prefix("config ") {
            name = config.to_owned();
        } else if let Some(value) = line.trim().strip_prefix("default ") {
            settings += &format!("{name}={value}\n");
        }
    }
    Ok(settings)
}

#[test]
fn the_scripts_make_an_artifact_and_what_the_disk_is_made_of() {
    flow("buildroot-image", async |scratch| {
        for tool in ["mkfs.ext4", "debugfs"] {
            if binaries::find_tool(tool).is_none() {
                skip(&format!(
                    "{tool} is not installed (Debian package e2fsprogs)"
                ));
                return Ok(());
            }
        }
        let (target, images) = (scratch.join("target"), scratch.join("images"));
        for folder in ["boot", "etc", "var/lib"] {
            std::fs::create_dir_all(target.join(folder)).context("making the target")?;
        }
        std::fs::create_dir_all(&images).context("making the images' folder")?;
        std::fs::write(target.join("boot/bzImage"), "kernel").context("writing the kernel")?;
        std::fs::write(target.join("etc/fstab"), "/dev/root / ext4 ro 0 1\n")
            .context("writing fstab")?;
        let config = scratch.join("config");
        let settings = defaults()? + "BR2_AMBIDEX_SERVER_URL=\"https://updates.example.com\"\n";
        std::fs::write(&config, settings).context("writing the configuration")?;
        // the disk itself is made where genimage is installed; its layout is checked either way
        let tools = scratch.join("tools");
        std::fs::create_dir(&tools).context("making the tools' folder")?;
        let genimage = binaries::find_tool("genimage");
        if genimage.is_none() {
            let stand_in = tools.join("genimage");
            std::fs::write(&stand_in, "#!/bin/sh\nexit 0\n").context("writing a tool")?;
            std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755))
                .context("its mode")?;
        }
        let run = |script: &str| {
            let path = std::env::var("PATH").unwrap_or_default();
            output(
                Command::new(tree().join("board/example").join(script))
                    .env("BR2_CONFIG", &config)
                    .env("TARGET_DIR", &target)
                    .env("BINARIES_DIR", &images)
                    .env("AMBIDEX_CLI", binaries::cli()?)
                    .env(
                        "PATH",
                        format!("{}:{path}:/usr/sbin:/sbin", tools.display()),
                    ),
            )
        };
        run("post-build.sh")?;
        // Buildroot runs it again over the same tree
        run("post-build.sh")?;
        let fstab = text(&target.join("etc/fstab"))?;
        ensure!(
            fstab
                == "/dev/root / ext4 ro 0 1\n/dev/vda4 /data ext4 defaults,noatime 0 2\n/dev/vda1 /boot/efi vfat sync,umask=0077 0 2\n",
            "{fstab}"
        );
        ensure!(
            target.join("var/lib/ambidex").is_symlink(),
            "the state is not in the data partition"
        );
        ensure!(
            target.join("boot/vmlinuz").exists()
                && std::fs::read(target.join("boot/initrd"))?.len() == 124,
            "kernel or initrd is missing"
        );

        let image = images.join("rootfs.ext4");
        output(
            Command::new("mkfs.ext4")
                .args(["-q", "-O", "^has_journal", "-d"])
                .arg(&target)
                .arg(&image)
                .arg("8M")
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"),
        )?;
        // the loader that Buildroot's GRUB package leaves
        std::fs::create_dir_all(images.join("efi-part/EFI/BOOT"))
            .context("making the loader's folder")?;
        std::fs::write(images.join("efi-part/EFI/BOOT/bootx64.efi"), "loader")
            .context("writing the loader")?;
        run("post-image.sh")?;

        let sum = digest(&image)?;
        let read = output(
            Command::new(binaries::cli()?)
                .args(["artifact", "read"])
                .arg(images.join("release-1.mender")),
        )?;
        for expected in ["release-1", "ambidex-example", sum.as_str()] {
            ensure!(
                read.contains(expected),
                "the artifact does not say {expected}:\n{read}"
            );
        }
        ensure!(
            text(&images.join("ambidex/grub-env"))?.len() == 1024,
            "the boot environment has another size"
        );
        data_partition(
            &images.join("ambidex/data.ext4"),
            &scratch,
            "ambidex-example",
            "release-1",
            &sum,
        )?;
        layout(&images)?;
        if genimage.is_some() {
            let size = std::fs::metadata(images.join("disk.img"))
                .context("the disk")?
                .len();
            ensure!(size > 2 * (256 << 20), "the disk has {size} bytes");
        }
        Ok(())
    });
}

/// Every file that the layout takes is there.
fn layout(images: &Path) -> Result<()> {
    let mut seen = 0;
    for line in text(&tree().join("board/example/genimage.cfg"))?.lines() {
        let Some((_, rest)) = line.split_once("image = \"") else {
            continue;
        };
        let name = rest.split('"').next().unwrap_or_default();
        // made by the layout itself
        if name != "esp.vfat" {
            ensure!(
                images.join(name).is_file(),
                "the layout names {name}, which nothing makes"
            );
            seen += 1;
        }
    }
    ensure!(seen == 7, "{seen} files in the layout");
    Ok(())
}

#[test]
fn scripts_are_shell_and_packages_name_what_exists() {
    flow("buildroot-names", async |_| {
        let mut scripts = 0;
        for path in files_below(&tree())? {
            let content = text(&path)?;
            if content.starts_with("#!/bin/sh") {
                output(Command::new("sh").arg("-n").arg(&path))?;
                ensure!(
                    std::fs::metadata(&path)?.permissions().mode() & 0o111 != 0,
                    "{} is not executable",
                    path.display()
                );
                scripts += 1;
            }
            for word in content.split(|c: char| c.is_whitespace() || "\"'".contains(c)) {
                let Some(name) = word
                    .strip_prefix("$(@D)/")
                    .filter(|name| !name.starts_with("target/") && !name.contains('$'))
                else {
                    continue;
                };
                ensure!(
                    binaries::repository().join(name).exists(),
                    "{}: no {name} in the sources",
                    path.display()
                );
            }
            for word in content
                .split('"')
                .filter_map(|word| word.split("BR2_EXTERNAL_AMBIDEX_PATH").nth(1))
            {
                let name = word.trim_start_matches([')', '/']).trim();
                ensure!(
                    name.starts_with("..") || name.contains('*') || tree().join(name).exists(),
                    "{}: no {name}",
                    path.display()
                );
            }
        }
        ensure!(scripts == 3, "{scripts} scripts");
        Ok(())
    });
}
