//! The place where every contender runs: slot A mounted as the root it runs from, slot B a loop
//! device that holds v1 before each run.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use super::images::{Images, output, run};

/// A mounted stage; dropping it unmounts and detaches everything.
pub struct Stage {
    pub root: PathBuf,
    pub slot_a: String,
    pub slot_b: String,
    work: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Stage {
    /// Attaches the slots, mounts A, and installs every contender's configuration in it.
    pub fn build(work_dir: &Path, images: &Images, agent: &Path) -> anyhow::Result<Self> {
        let work = work_dir.join("stage");
        fs::create_dir_all(&work)?;
        clear_leftovers(&work)?;
        for slot in ["a.img", "b.img"] {
            fs::copy(images.path("v1.ext4"), work.join(slot))?;
        }
        let mut stage = Self {
            root: work.join("root"),
            slot_a: attach(&work.join("a.img"))?,
            slot_b: String::new(),
            work: work.clone(),
            mounts: Vec::new(),
        };
        stage.slot_b = attach(&work.join("b.img"))?;
        fs::create_dir_all(&stage.root)?;
        stage.mount(
            &["-o", "noatime"],
            Path::new(&stage.slot_a.clone()),
            &stage.root.clone(),
        )?;
        for (source, target) in [("/dev", "dev"), ("/proc", "proc"), ("/sys", "sys")] {
            let target = stage.root.join(target);
            stage.mount(&["--bind"], Path::new(source), &target)?;
        }
        let mnt = stage.root.join("mnt");
        stage.mount(&["-t", "tmpfs"], Path::new("tmpfs"), &mnt)?;
        let files = mnt.join("images");
        fs::create_dir_all(&files)?;
        stage.mount(&["--bind"], &images.directory, &files)?;
        fs::copy(agent, mnt.join("ambidex-agent")).context("copy the agent")?;
        stage.configure()?;
        Ok(stage)
    }

    fn mount(&mut self, options: &[&str], source: &Path, target: &Path) -> anyhow::Result<()> {
        run(Command::new("mount").args(options).arg(source).arg(target))?;
        self.mounts.push(target.to_owned());
        Ok(())
    }

    fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    fn configure(&self) -> anyhow::Result<()> {
        let (a, b) = (&self.slot_a, &self.slot_b);
        std::os::unix::fs::symlink(b, self.root.join("mnt/slot-b"))?;
        for folder in [
            "data/mender",
            "mnt/ambidex",
            "mnt/tmp",
            "run/swupdate",
            "run/dbus",
            "var/lib/rauc",
        ] {
            fs::create_dir_all(self.root.join(folder))?;
        }
        self.write("mnt/device_type", "device_type=testdev\n")?;
        self.write("data/mender/device_type", "device_type=testdev\n")?;
        self.write("etc/mender/artifact_info", "artifact_name=release-1\n")?;
        self.write(
            "etc/mender/mender.conf",
            &format!(
                "{{\"RootfsPartA\":\"{a}\",\"RootfsPartB\":\"{b}\",\
                 \"DeviceTypeFile\":\"/mnt/device_type\"}}"
            ),
        )?;
        self.write("etc/fw_env.config", "/mnt/uboot.env 0x0 0x4000\n")?;
        self.write(
            "mnt/agent.toml",
            &format!(
                "rootfs_part_a = \"{a}\"\nrootfs_part_b = \"{b}\"\n\
                 device_type_file = \"/mnt/device_type\"\n\n[boot]\nkind = \"uboot\"\n\
                 fw_env_config = \"/etc/fw_env.config\"\n"
            ),
        )?;
        fs::copy(
            self.root.join("mnt/images/cert.pem"),
            self.root.join("etc/bench-cert.pem"),
        )?;
        self.write(
            "etc/rauc/system.conf",
            &format!(
                "[system]\ncompatible=testboard\nbootloader=custom\nstatusfile=/mnt/rauc.status\n\n\
                 [handlers]\nbootloader-custom-backend=/mnt/rauc-boot\n\n\
                 [keyring]\npath=/etc/bench-cert.pem\ncheck-purpose=any\n\n\
                 [slot.rootfs.0]\ndevice={a}\ntype=ext4\nbootname=A\n\n\
                 [slot.rootfs.1]\ndevice={b}\ntype=ext4\nbootname=B\n"
            ),
        )?;
        self.write(
            "mnt/rauc-boot",
            "#!/bin/sh\ncase \"$1\" in get-primary) echo A;; get-state) echo good;; esac\n",
        )?;
        self.write(
            "mnt/rauc-install",
            "#!/bin/sh\nset -e\n\
             dbus-daemon --config-file=/mnt/bus.conf --nofork --nopidfile & bus=$!\n\
             trap 'kill $bus' EXIT\n\
             until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done\n\
             rauc --override-boot-slot=A service & service=$!\n\
             sleep 0.3; timeout 20 sh -c 'until rauc status >/dev/null 2>&1; do sleep 0.1; done'\n\
             rauc install /mnt/images/v2.raucb\n\
             kill $service $bus\ntrap - EXIT\nwait || true\n",
        )?;
        // Debian ships the policy of the real system bus in another package; this bus is private.
        self.write(
            "mnt/bus.conf",
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig>\
             <type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
             <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>\n",
        )?;
        for script in ["rauc-boot", "rauc-install"] {
            run(Command::new("chmod")
                .arg("755")
                .arg(self.root.join("mnt").join(script)))?;
        }
        Ok(())
    }

    /// Puts v1 back into slot B, outside every measurement.
    pub fn restore_slot_b(&self) -> anyhow::Result<()> {
        run(Command::new("sh")
            .arg("-c")
            .arg("cat \"$1\" > \"$2\" && sync \"$2\" && sync && echo 1 > /proc/sys/vm/drop_caches")
            .arg("sh")
            .arg(self.root.join("mnt/images/v1.ext4"))
            .arg(&self.slot_b))
    }

    /// Every contender starts from a boot environment that says "A is committed".
    pub fn reset_environment(&self) -> anyhow::Result<()> {
        let number: u32 = self
            .slot_a
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .context("number of the loop device")?;
        let defaults = format!(
            "mender_boot_part={number}\nmender_boot_part_hex={number:x}\n\
             upgrade_available=0\nbootcount=0\n"
        );
        self.write("etc/u-boot-initial-env", &defaults)?;
        run(Command::new("mkenvimage")
            .args(["-s", "0x4000", "-o"])
            .arg(self.root.join("mnt/uboot.env"))
            .arg(self.root.join("etc/u-boot-initial-env")))?;
        for state in ["mnt/ambidex", "data/mender"] {
            let folder = self.root.join(state);
            fs::remove_dir_all(&folder)?;
            fs::create_dir_all(&folder)?;
        }
        self.write("data/mender/device_type", "device_type=testdev\n")?;
        drop(fs::remove_file(self.root.join("mnt/rauc.status")));
        Ok(())
    }

    /// The contender must have done the work it was measured for.
    pub fn verify_slot_b(&self, images: &Images) -> anyhow::Result<()> {
        let mut wanted = fs::File::open(images.path("v2.ext4"))?;
        let mut found = fs::File::open(&self.slot_b)?;
        let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        for offset in 0..images.image_bytes() >> 20 {
            wanted.read_exact(&mut a)?;
            found.read_exact(&mut b)?;
            if a != b {
                bail!("slot B differs from the image in MiB {offset}");
            }
        }
        Ok(())
    }

    /// `chroot` into slot A, ready for a shell script.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("chroot");
        command
            .arg(&self.root)
            .args(["/bin/sh", "-c", script])
            .env("TMPDIR", "/mnt/tmp");
        command
    }

    /// Runs a script in slot A, unmeasured.
    pub fn run(&self, script: &str) -> anyhow::Result<()> {
        output(&mut self.command(script)).map(drop)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            if let Err(error) = run(Command::new("umount").arg(mount)) {
                eprintln!("unmount {}: {error:#}", mount.display());
            }
        }
        for device in [&self.slot_a, &self.slot_b] {
            if !device.is_empty()
                && let Err(error) = run(Command::new("losetup").arg("-d").arg(device))
            {
                eprintln!("detach {device}: {error:#}");
            }
        }
        drop(fs::remove_file(self.work.join("a.img")));
        drop(fs::remove_file(self.work.join("b.img")));
    }
}

fn attach(file: &Path) -> anyhow::Result<String> {
    let device = output(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
    Ok(device.trim().to_owned())
}

/// A run that was killed leaves its mounts and loop devices behind; the next one removes them.
fn clear_leftovers(work: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let prefix = work.to_string_lossy().into_owned();
    let targets: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| target.starts_with(&prefix))
        .collect();
    for target in targets.iter().rev() {
        run(Command::new("umount").arg(target))?;
    }
    for slot in ["a.img", "b.img"] {
        let devices = output(Command::new("losetup").arg("-j").arg(work.join(slot)))?;
        for device in devices.lines().filter_map(|line| line.split(':').next()) {
            run(Command::new("losetup").arg("-d").arg(device))?;
        }
    }
    Ok(())
}
