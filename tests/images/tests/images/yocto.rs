//! The Yocto layer, without bitbake: what it names exists, its layouts and functions fit together, and the
//! functions of its image class, run by a shell, make an artifact and a data partition that are read back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use ambidex_harness::{Scratch, binaries, flow, skip};
use ambidex_test_images::{digest, files_below, output, text};
use anyhow::{Context, Result, bail, ensure};

fn layer() -> PathBuf {
    binaries::repository().join("board-support/yocto/meta-ambidex")
}

/// Recipes, their parts, classes.
fn metadata() -> Result<Vec<PathBuf>> {
    let mut files = files_below(&layer())?;
    files.retain(|path| {
        path.extension().is_some_and(|end| {
            ["bb", "bbappend", "inc", "bbclass"]
                .iter()
                .any(|kind| end == *kind)
        })
    });
    ensure!(files.len() > 8, "only {files:?} in the layer");
    Ok(files)
}

/// The names in `${NAME}`, Python left out.
fn variables(text: &str) -> BTreeSet<String> {
    text.split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !name.starts_with('@'))
        .collect()
}

#[test]
fn everything_that_recipes_name_exists() {
    flow("yocto-names", async |_| {
        let repository = binaries::repository();
        let mut seen = 0;
        for path in metadata()? {
            let folder = path.parent().context("a recipe has a folder")?;
            let content = text(&path)?;
            for word in content.split(|c: char| c.is_whitespace() || "\"'".contains(c)) {
                // files of the sources
                if let Some(name) = word
                    .strip_prefix("${S}/")
                    .filter(|name| !name.contains(['$', '}']))
                {
                    if name == "ambidex-default.env" {
                        continue; // written by the recipe itself
                    }
                    ensure!(
                        repository.join(name).exists(),
                        "{}: no {name} in the sources",
                        path.display()
                    );
                    seen += 1;
                }
                // files beside the recipe
                if let Some(name) = word
                    .strip_prefix("file://")
                    .filter(|name| !name.contains(['$', ';']))
                {
                    let beside = files_below(folder)?;
                    ensure!(
                        beside.iter().any(|file| file.ends_with(name)),
                        "{}: no {name} beside it",
                        path.display()
                    );
                    seen += 1;
                }
            }
            for line in content.lines() {
                if let Some(name) = line
                    .strip_prefix("require ")
                    .filter(|name| !name.starts_with("conf/"))
                {
                    let found = [folder.join(name), layer().join(name)];
                    ensure!(
                        found.iter().any(|file| file.is_file()),
                        "{}: no {name}",
                        path.display()
                    );
                    seen += 1;
                }
            }
        }
        ensure!(seen >= 10, "only {seen} names were found to check");
        let license = text(&layer().join("recipes-ambidex/ambidex/ambidex-source.inc"))?;
        let sum = output(Command::new("md5sum").arg(repository.join("LICENSE")))?;
        let sum = sum.split(' ').next().unwrap_or_default();
        ensure!(
            license.contains(&format!("md5={sum}")),
            "the licence's checksum is {sum}"
        );
        Ok(())
    });
}

#[test]
fn layouts_use_what_the_classes_set() {
    flow("yocto-layouts", async |_| {
        let mut classes = String::new();
        for name in ["ambidex-image", "ambidex-board"] {
            classes += &text(&layer().join(format!("classes/{name}.bbclass")))?;
        }
        let mut layouts = 0;
        for path in files_below(&layer().join("wic"))? {
            let content = text(&path)?;
            for name in variables(&content) {
                ensure!(
                    classes
                        .lines()
                        .any(|line| line.starts_with(&format!("{name} "))),
                    "{}: no class sets {name}",
                    path.display()
                );
            }
            let parts = content
                .lines()
                .filter(|line| line.starts_with("part "))
                .count();
            ensure!(parts == 4, "{} has {parts} partitions", path.display());
            layouts += 1;
        }
        ensure!(layouts == 3, "{layouts} layouts");
        Ok(())
    });
}

/// The shell functions of a file: name and body.
fn functions(content: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut current: Option<(String, String)> = None;
    for line in content.lines() {
        match &mut current {
            Some((name, body)) if line == "}" => {
                found.insert(std::mem::take(name), std::mem::take(body));
                current = None;
            }
            Some((_, body)) => {
                body.push_str(line);
                body.push('\n');
            }
            None => {
                if let Some(name) = line
                    .strip_suffix("() {")
                    .filter(|name| !name.starts_with("python"))
                {
                    current = Some((name.to_owned(), String::new()));
                }
            }
        }
    }
    found
}

#[test]
fn functions_are_shell() {
    flow("yocto-functions", async |scratch| {
        let mut seen = 0;
        for path in metadata()? {
            for (name, body) in functions(&text(&path)?) {
                let file = scratch.join("function");
                std::fs::write(&file, &body).context("writing a function")?;
                output(Command::new("sh").arg("-n").arg(&file))
                    .with_context(|| format!("{name} in {}", path.display()))?;
                seen += 1;
            }
        }
        ensure!(seen >= 10, "only {seen} functions were found");
        Ok(())
    });
}

/// Runs a function of a recipe or class by a shell, with bitbake's variables as the shell's.
fn run(file: &str, function: &str, set: &[(&str, &str)], path: &Path) -> Result<()> {
    let content = text(&layer().join(file))?;
    let body = functions(&content)
        .remove(function)
        .with_context(|| format!("no {function} in {file}"))?;
    for name in variables(&body) {
        ensure!(
            set.iter().any(|(known, _)| *known == name),
            "{function} uses {name}, which this test does not set"
        );
    }
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &body]);
    let inherited = std::env::var("PATH").unwrap_or_default();
    shell.env(
        "PATH",
        format!("{}:{inherited}:/usr/sbin:/sbin", path.display()),
    );
    shell.envs(set.iter().copied());
    output(&mut shell)
        .map(drop)
        .with_context(|| format!("{function} of {file}"))
}

/// A folder with our command line under the name that recipes call.
fn tools(scratch: &Scratch) -> Result<PathBuf> {
    let folder = scratch.join("tools");
    std::fs::create_dir(&folder).context("making the tools' folder")?;
    std::os::unix::fs::symlink(binaries::cli()?, folder.join("ambidex"))
        .context("linking the CLI")?;
    Ok(folder)
}

#[test]
fn the_image_class_makes_an_artifact_and_a_data_partition() {
    flow("yocto-class", async |scratch| {
        for tool in ["mkfs.ext4", "debugfs"] {
            if binaries::find_tool(tool).is_none() {
                skip(&format!(
                    "{tool} is not installed (Debian package e2fsprogs)"
                ));
                return Ok(());
            }
        }
        let at = |name: &str| scratch.join(name).to_string_lossy().into_owned();
        let (root, image, work) = (at("root"), at("image"), at("work"));
        let tools = tools(&scratch)?;
        std::fs::create_dir_all(format!("{root}/etc")).context("making the root")?;
        std::fs::create_dir_all(format!("{root}/boot")).context("making the root")?;
        std::fs::create_dir_all(&work).context("making the work folder")?;
        std::fs::write(format!("{root}/boot/bzImage"), "kernel").context("writing the kernel")?;
        let set = [
            ("IMAGE_ROOTFS", root.as_str()),
            ("AMBIDEX_IMAGE", &image),
            ("WORKDIR", &work),
            ("AMBIDEX_BOOT_MOUNT", "/boot/efi"),
            ("AMBIDEX_BOOTLOADER", "grub"),
            ("AMBIDEX_PART_PREFIX", "/dev/mmcblk0p"),
            ("AMBIDEX_BOOT_PART", "1"),
            ("AMBIDEX_ROOTFS_PART_A", "2"),
            ("AMBIDEX_ROOTFS_PART_B", "3"),
            ("AMBIDEX_DATA_PART", "4"),
            ("AMBIDEX_DATA_SIZE_MB", "16"),
            ("AMBIDEX_SERVER_URL", "https://updates.example.com"),
            ("AMBIDEX_VERIFY_KEY", ""),
            ("AMBIDEX_SIGNING_KEY", ""),
            ("AMBIDEX_DEVICE_TYPE", "board-1 board-2"),
            ("AMBIDEX_ARTIFACT_NAME", "release-7"),
            ("AMBIDEX_ARTIFACT_ARGS", "--compression zstd"),
            ("AMBIDEX_KERNEL_NAME", "vmlinuz"),
            ("AMBIDEX_INITRAMFS", ""),
            ("KERNEL_IMAGETYPE", "bzImage"),
            ("DEPLOY_DIR_IMAGE", ""),
            ("MACHINE", "machine"),
            ("sysconfdir", "/etc"),
        ];
        let class = "classes/ambidex-image.bbclass";
        run(class, "ambidex_root", &set, &tools)?;
        let fstab = text(&scratch.join("root/etc/fstab"))?;
        ensure!(
            fstab.contains("/dev/mmcblk0p4 /data ext4")
                && fstab.contains("/dev/mmcblk0p1 /boot/efi vfat sync"),
            "{fstab}"
        );
        ensure!(
            scratch.join("root/boot/vmlinuz").exists(),
            "no kernel under the name that GRUB loads"
        );
        ensure!(
            std::fs::read(scratch.join("root/boot/initrd"))?.len() == 124,
            "no empty initrd"
        );

        output(
            Command::new("mkfs.ext4")
                .args([
                    "-q",
                    "-O",
                    "^has_journal",
                    "-d",
                    &root,
                    &format!("{image}.ext4"),
                    "8M",
                ])
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"),
        )?;
        run(class, "ambidex_write_artifact", &set, &tools)?;
        run(class, "ambidex_write_data", &set, &tools)?;

        let sum = digest(Path::new(&format!("{image}.ext4")))?;
        let read = output(Command::new(binaries::cli()?).args([
            "artifact",
            "read",
            &format!("{image}.mender"),
        ]))?;
        for expected in ["release-7", "board-1", "board-2", sum.as_str()] {
            ensure!(
                read.contains(expected),
                "the artifact does not say {expected}:\n{read}"
            );
        }
        data_partition(
            Path::new(&format!("{image}.ambidexdata")),
            &scratch,
            "board-1",
            "release-7",
            &sum,
        )
    });
}

/// Unpacks a data partition and lets the agent itself read what is in it.
pub(crate) fn data_partition(
    image: &Path,
    scratch: &Scratch,
    device_type: &str,
    release: &str,
    sum: &str,
) -> Result<()> {
    let out = scratch.join("data");
    std::fs::create_dir_all(&out).context("making a folder")?;
    output(
        Command::new("debugfs")
            .arg("-R")
            .arg(format!("rdump /ambidex {}", out.display()))
            .arg(image)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"),
    )?;
    let state = out.join("ambidex");
    ensure!(
        text(&state.join("device_type"))? == format!("device_type={device_type}\n"),
        "wrong device type"
    );
    let bootstrap = output(
        Command::new(binaries::cli()?)
            .args(["artifact", "read"])
            .arg(state.join("bootstrap.mender")),
    )?;
    for expected in [release, device_type, sum] {
        ensure!(
            bootstrap.contains(expected),
            "the bootstrap artifact does not say {expected}:\n{bootstrap}"
        );
    }
    let configuration = scratch.join("conf");
    std::fs::create_dir_all(&configuration).context("making a folder")?;
    std::fs::write(
        configuration.join("agent.toml"),
        "server_url = \"https://updates.example.com\"\n",
    )
    .context("writing a configuration")?;
    let agent = Command::new(binaries::agent()?)
        .arg("--conf-dir")
        .arg(&configuration)
        .arg("--state-dir")
        .arg(&state)
        .arg("status")
        .output()
        .context("starting the agent")?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&agent.stdout),
        String::from_utf8_lossy(&agent.stderr)
    );
    if !agent.status.success() || !said.contains(device_type) {
        bail!("the agent does not take the data partition: {said}");
    }
    Ok(())
}

#[test]
fn grubs_environment_is_what_its_configuration_reads() {
    flow("yocto-grub-environment", async |scratch| {
        let folder = scratch.path().to_string_lossy().into_owned();
        let set = [
            ("B", folder.as_str()),
            ("AMBIDEX_PART_PREFIX", "/dev/sda"),
            ("AMBIDEX_ROOTFS_PART_A", "2"),
            ("AMBIDEX_ROOTFS_PART_B", "3"),
            ("AMBIDEX_GRUB_KERNEL_ARGS", "console=ttyS0"),
        ];
        run(
            "recipes-bsp/ambidex-boot/ambidex-grub-config.bb",
            "do_compile",
            &set,
            scratch.path(),
        )?;
        let env = text(&scratch.join("env"))?;
        ensure!(env.len() == 1024, "{} bytes", env.len());
        let expected = "# GRUB Environment Block\nediting=0\nmender_boot_part=2\nmender_boot_part_hex=2\nupgrade_available=0\nbootcount=0\n#";
        ensure!(env.starts_with(expected), "{env}");
        let board = text(&scratch.join("board.cfg"))?;
        ensure!(board.contains("set rootfs_b=/dev/sda3\n"), "{board}");
        Ok(())
    });
}
