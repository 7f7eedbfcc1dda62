//! Slots that are block devices: what only the kernel can refuse. Needs root and loop devices;
//! without them the tests say so and pass.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use ambidex_artifact::Payload;
use ambidex_install::FetchError;
use support::{Device, build, noise, spec};

const SLOT_BYTES: usize = 4 << 20;

/// A loop device over a file; detached at the end.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--show", "-f"])
            .arg(file)
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self(
                String::from_utf8(output.stdout).unwrap().trim().into(),
            )),
            other => {
                ambidex_harness::skip(&format!(
                    "no loop device ({other:?}); run as root where loop devices exist"
                ));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

/// The file slots of the device, each behind a loop device. The numbers that the bootloader uses
/// are those of the loop devices.
async fn device() -> Option<(Device, Loop, Loop)> {
    let mut device = Device::new().with_slots(SLOT_BYTES);
    let (a, b) = (
        Loop::over(&device.path("slot2"))?,
        Loop::over(&device.path("slot3"))?,
    );
    device.context.rootfs.part_a = Some(a.0.clone());
    device.context.rootfs.part_b = Some(b.0.clone());
    device.context.rootfs.running_root = Some(a.0.clone());
    let number = a.0.to_string_lossy().replace("/dev/loop", "");
    device
        .boot()
        .write(&[("mender_boot_part", &number)])
        .await
        .unwrap();
    Some((device, a, b))
}

fn artifact(image: &[u8]) -> Vec<u8> {
    build(&spec(Payload::RootfsImage), &[("rootfs.ext4", image)])
}

fn run(program: &str, args: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
}

#[tokio::test]
async fn an_image_is_written_through_a_block_device() {
    let Some((device, _a, b)) = device().await else {
        return;
    };
    // not a multiple of the block size, so the last block is a partial one
    let image = noise(SLOT_BYTES - 1234, 1);
    device.fetch(&artifact(&image)).await.unwrap();
    let content = std::fs::read(&b.0).unwrap();
    assert!(
        content[..image.len()] == image && content[image.len()..].iter().all(|byte| *byte == 0xB3)
    );
    let full = noise(SLOT_BYTES, 2);
    device.fetch(&artifact(&full)).await.unwrap();
    assert!(std::fs::read(&b.0).unwrap() == full);
    let error = device
        .fetch(&artifact(&noise(SLOT_BYTES + 1, 3)))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, FetchError::TooLarge { bytes, .. } if *bytes == SLOT_BYTES as u64),
        "{error}"
    );
    assert!(std::fs::read(&b.0).unwrap() == full);
}

#[tokio::test]
async fn a_mounted_slot_is_never_written() {
    let Some((device, _a, b)) = device().await else {
        return;
    };
    run("mke2fs", &["-q".as_ref(), "-F".as_ref(), b.0.as_os_str()]);
    let place = device.path("mounted");
    std::fs::create_dir(&place).unwrap();
    run("mount", &[b.0.as_os_str(), place.as_os_str()]);
    let refused = device.fetch(&artifact(&noise(SLOT_BYTES, 1))).await;
    run("umount", &[place.as_os_str()]);
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("is mounted on") && error.contains("mounted"),
        "{error}"
    );
    device
        .fetch(&artifact(&noise(SLOT_BYTES, 1)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_slot_held_by_somebody_else_is_refused_by_the_kernel() {
    use std::os::unix::fs::OpenOptionsExt;
    let Some((device, _a, b)) = device().await else {
        return;
    };
    const O_EXCL: i32 = 0o200;
    let holder = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(&b.0)
        .unwrap();
    let error = device
        .fetch(&artifact(&noise(1000, 1)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("busy") && error.contains(b.0.to_str().unwrap()),
        "{error}"
    );
    drop(holder);
    device.fetch(&artifact(&noise(1000, 1))).await.unwrap();
}

#[tokio::test]
async fn the_real_root_is_compared_with_the_environment() {
    let Some((mut device, a, b)) = device().await else {
        return;
    };
    device.context.rootfs.running_root = None;
    let before = std::fs::read(&b.0).unwrap();
    let error = device
        .fetch(&artifact(&noise(1000, 1)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("does not match") && error.contains(a.0.to_str().unwrap()),
        "{error}"
    );
    assert!(std::fs::read(&b.0).unwrap() == before);
}

#[tokio::test]
async fn the_same_device_under_two_names_is_no_pair() {
    let Some((mut device, a, _b)) = device().await else {
        return;
    };
    let alias = device.path("alias99");
    std::os::unix::fs::symlink(&a.0, &alias).unwrap();
    device.context.rootfs.part_b = Some(alias);
    let error = device
        .fetch(&artifact(&noise(1000, 1)))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("same device"), "{error}");
}

/// Sectors that the kernel has written to the device so far.
fn sectors_written(device: &Loop) -> u64 {
    let name = device.0.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
    text.split_whitespace().nth(6).unwrap().parse().unwrap()
}

#[tokio::test]
async fn b6_blocks_that_are_there_already_are_not_written_again() {
    let Some((device, _a, b)) = device().await else {
        return;
    };
    let mut image = noise(SLOT_BYTES, 1);
    let before = sectors_written(&b);
    device.fetch(&artifact(&image)).await.unwrap();
    let whole = SLOT_BYTES as u64 / 512;
    let written = sectors_written(&b) - before;
    assert!(written >= whole, "{written} of {whole}");

    let before = sectors_written(&b);
    device.fetch(&artifact(&image)).await.unwrap();
    assert_eq!(sectors_written(&b) - before, 0);

    image[SLOT_BYTES / 2] ^= 1;
    device.fetch(&artifact(&image)).await.unwrap();
    let written = sectors_written(&b) - before;
    // a page of the largest kind, at most
    assert!((1..=128).contains(&written), "{written}");
    assert!(std::fs::read(&b.0).unwrap() == image);
}
