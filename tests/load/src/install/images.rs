//! Two releases of a real root filesystem: v2 differs from v1 in 3 % of its files, rebuilt, so
//! that blocks shift as they do between two real builds.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

const IMAGE_MIB: u64 = 512;
/// One file in this many is changed in v2.
const CHANGED_ONE_IN: u64 = 33;
const PACKAGES: &str = "mender-client,rauc,swupdate,systemd,python3,openssh-server,\
network-manager,perl,gnupg,libubootenv-tool,dbus,zstd,ca-certificates,squashfs-tools,e2fsprogs";

/// Paths of everything that is built once and kept.
pub struct Images {
    pub directory: PathBuf,
    /// Blocks of 4 KiB that differ in place between v1 and v2, in MiB.
    pub differing_mib: u64,
}

impl Images {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn image_bytes(&self) -> u64 {
        IMAGE_MIB << 20
    }

    /// Builds what is missing under `work_dir/images`.
    pub fn prepare(work_dir: &Path, cli: &Path) -> anyhow::Result<Self> {
        let directory = work_dir.join("images");
        fs::create_dir_all(&directory)?;
        let mut images = Self {
            directory,
            differing_mib: 0,
        };
        let tree = images.path("tree");
        if !images.path("v1.ext4").exists() {
            bootstrap(&tree)?;
            make_image(&tree, &images.path("v1.ext4"))?;
        }
        if !images.path("v2.ext4").exists() {
            change_files(&tree, &images.path("changed.list"))?;
            make_image(&tree, &images.path("v2.ext4"))?;
            fs::remove_dir_all(&tree)?;
        }
        images.differing_mib = differing_mib(&images.path("v1.ext4"), &images.path("v2.ext4"))?;
        for compression in ["none", "gzip", "zstd", "lzma"] {
            let target = images.path(&format!("v2-{compression}.mender"));
            if !target.exists() {
                run(Command::new(cli)
                    .args([
                        "artifact",
                        "write",
                        "rootfs-image",
                        "-n",
                        "release-2",
                        "-c",
                        "testdev",
                    ])
                    .args(["--compression", compression, "-f"])
                    .arg(images.path("v2.ext4"))
                    .arg("-o")
                    .arg(&target))?;
            }
        }
        if !images.path("v2.ext4.zst").exists() {
            run(Command::new("zstd")
                .args(["-q", "-3", "-f", "-o"])
                .arg(images.path("v2.ext4.zst"))
                .arg(images.path("v2.ext4")))?;
        }
        images.rauc_bundle()?;
        images.swupdate_package()?;
        Ok(images)
    }

    fn key_pair(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let (key, certificate) = (self.path("key.pem"), self.path("cert.pem"));
        if !certificate.exists() {
            run(Command::new("openssl")
                .args([
                    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
                ])
                .args([
                    "-subj",
                    "/CN=benchmark",
                    "-addext",
                    "extendedKeyUsage=emailProtection",
                ])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate)
                .stderr(Stdio::null()))?;
        }
        Ok((key, certificate))
    }

    fn rauc_bundle(&self) -> anyhow::Result<()> {
        let target = self.path("v2.raucb");
        if target.exists() {
            return Ok(());
        }
        let (key, certificate) = self.key_pair()?;
        let content = self.path("rauc-content");
        fresh(&content)?;
        fs::hard_link(self.path("v2.ext4"), content.join("rootfs.ext4"))?;
        fs::write(
            content.join("manifest.raucm"),
            "[update]\ncompatible=testboard\nversion=2\n\n[image.rootfs]\nfilename=rootfs.ext4\n",
        )?;
        run(Command::new("rauc")
            .arg("bundle")
            .arg(format!("--cert={}", certificate.display()))
            .arg(format!("--key={}", key.display()))
            .arg("--mksquashfs-args=-comp zstd -quiet")
            .arg(&content)
            .arg(&target)
            .stdout(Stdio::null())
            .stderr(Stdio::null()))?;
        fs::remove_dir_all(content)?;
        Ok(())
    }

    fn swupdate_package(&self) -> anyhow::Result<()> {
        let target = self.path("v2.swu");
        if target.exists() {
            return Ok(());
        }
        let (key, certificate) = self.key_pair()?;
        let compressed = self.path("v2.ext4.zst");
        let digest = output(Command::new("sha256sum").arg(&compressed))?;
        let digest = digest.split_whitespace().next().context("sha256sum")?;
        // The device is named by a fixed link that the stage points at slot B.
        let description = format!(
            "software = {{ version = \"2\"; testboard = {{ hardware-compatibility = [\"1.0\"]; \
             images: ( {{ filename = \"v2.ext4.zst\"; type = \"raw\"; device = \"/mnt/slot-b\"; \
             sha256 = \"{digest}\"; compressed = \"zstd\"; installed-directly = true; }} ); }}; }}\n"
        );
        let folder = self.path("swu");
        fresh(&folder)?;
        fs::write(folder.join("sw-description"), description)?;
        run(Command::new("openssl")
            .current_dir(&folder)
            .args([
                "cms",
                "-sign",
                "-in",
                "sw-description",
                "-out",
                "sw-description.sig",
            ])
            .args(["-outform", "DER", "-nosmimecap", "-binary", "-signer"])
            .arg(&certificate)
            .arg("-inkey")
            .arg(&key))?;
        fs::hard_link(&compressed, folder.join("v2.ext4.zst"))?;
        run(Command::new("sh").current_dir(&folder).arg("-c").arg(
            "printf '%s\\n' sw-description sw-description.sig v2.ext4.zst \
             | cpio -o -H crc --quiet > ../v2.swu.partial && mv ../v2.swu.partial ../v2.swu",
        ))?;
        fs::remove_dir_all(folder)?;
        Ok(())
    }
}

/// An empty folder: an attempt that was broken off may have left one.
fn fresh(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

fn bootstrap(tree: &Path) -> anyhow::Result<()> {
    if tree.join("etc/os-release").exists() {
        return Ok(());
    }
    eprintln!("bootstrapping a Debian root filesystem (about a minute)");
    // The mirror is whatever this machine's own apt configuration names.
    run(Command::new("sh")
        .arg("-c")
        .arg(format!(
            "set -e; cat /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources 2>/dev/null \
             | mmdebstrap --quiet --variant=minbase --include={PACKAGES} bookworm \"$1\" -"
        ))
        .arg("sh")
        .arg(tree))
}

/// Changes short runs in every 4 KiB of every 33rd file, and its length by up to 300 bytes.
fn change_files(tree: &Path, list: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect_files(tree, &mut files)?;
    files.sort();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift: the same "random" changes on every machine
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut changed = String::new();
    for file in &files {
        if next() % CHANGED_ONE_IN != 0 {
            continue;
        }
        let mut content = fs::read(file)?;
        for block in content.chunks_mut(4096) {
            let start = (next() as usize) % block.len();
            for byte in block[start..].iter_mut().take(24) {
                *byte ^= next() as u8;
            }
        }
        let grow = (next() % 300) as usize;
        content.extend((0..grow).map(|_| next() as u8));
        fs::write(file, content)?;
        changed.push_str(&format!("{}\n", file.display()));
    }
    fs::write(list, changed)?;
    Ok(())
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect_files(&entry.path(), files)?;
        } else if kind.is_file() && entry.metadata()?.len() > 0 {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn make_image(tree: &Path, image: &Path) -> anyhow::Result<()> {
    let partial = image.with_extension("partial");
    run(Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", "rootfs"])
        .args([
            "-U",
            "6f0d7b1e-52b5-4b0e-9d6a-0d1c5a8f1c11",
            "-E",
            "hash_seed=6f0d7b1e-52b5-4b0e-9d6a-0d1c5a8f1c11,lazy_itable_init=0,root_owner=0:0",
        ])
        .arg("-d")
        .arg(tree)
        .arg(&partial)
        .arg(format!("{IMAGE_MIB}M")))?;
    // A slot has no holes: allocate them.
    run(Command::new("fallocate")
        .args(["-l", &format!("{IMAGE_MIB}M")])
        .arg(&partial))?;
    fs::rename(partial, image)?;
    Ok(())
}

fn differing_mib(one: &Path, other: &Path) -> anyhow::Result<u64> {
    let (mut one, mut other) = (fs::File::open(one)?, fs::File::open(other)?);
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut blocks = 0_u64;
    for _ in 0..IMAGE_MIB {
        one.read_exact(&mut a)?;
        other.read_exact(&mut b)?;
        blocks += a
            .chunks(4096)
            .zip(b.chunks(4096))
            .filter(|(x, y)| x != y)
            .count() as u64;
    }
    Ok((blocks * 4096) >> 20)
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs a command that must succeed and returns its standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
