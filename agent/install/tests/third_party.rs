//! Row M10: modules written for the reference client run unmodified. They come from Debian's
//! package `mender-client`; without it the tests say so and pass.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use ambidex_artifact::Payload;
use ambidex_install::{Handler, Reboot};
use support::{Device, build, read, spec};

const MODULES: &str = "/usr/share/mender/modules/v3";

fn device_with(module: &str) -> Option<Device> {
    let path = Path::new(MODULES).join(module);
    if !path.exists() {
        eprintln!(
            "SKIPPED: {} is missing; install the package mender-client",
            path.display()
        );
        return None;
    }
    let mut device = Device::new();
    device.context.modules_dir = PathBuf::from(MODULES);
    Some(device)
}

async fn installed(device: &Device, module: &str, files: &[(&str, &[u8])]) -> Handler {
    let artifact = build(&spec(Payload::Module(module.into())), files);
    let handler = device.fetch(&artifact).await.unwrap().handler.unwrap();
    handler.install().await.unwrap();
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
    handler
}

#[tokio::test]
async fn single_file_installs_rolls_back_and_commits() {
    let Some(device) = device_with("single-file") else {
        return;
    };
    let dest = device.path("etc");
    std::fs::create_dir(&dest).unwrap();
    std::fs::write(dest.join("motd"), "old").unwrap();
    let dest_dir = dest.to_str().unwrap().as_bytes();
    let files: [(&str, &[u8]); 4] = [
        ("dest_dir", dest_dir),
        ("filename", b"motd"),
        ("permissions", b"600"),
        ("motd", b"new"),
    ];
    let handler = installed(&device, "single-file", &files).await;
    assert_eq!(read(&dest.join("motd")), "new");
    assert!(handler.supports_rollback().await.unwrap());
    handler.rollback().await.unwrap();
    assert_eq!(read(&dest.join("motd")), "old");
    handler.failure().await.unwrap();
    handler.cleanup().await.unwrap();

    let handler = installed(&device, "single-file", &files).await;
    handler.commit().await.unwrap();
    handler.cleanup().await.unwrap();
    assert_eq!(read(&dest.join("motd")), "new");
    assert!(!device.context.work_dir.exists());
}

#[tokio::test]
async fn directory_installs_and_rolls_back() {
    let Some(device) = device_with("directory") else {
        return;
    };
    let (dest, source, tar) = (
        device.path("srv"),
        device.path("source"),
        device.path("update.tar"),
    );
    std::fs::create_dir(&dest).unwrap();
    std::fs::create_dir(&source).unwrap();
    std::fs::write(dest.join("old"), "o").unwrap();
    std::fs::write(source.join("new"), "n").unwrap();
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&source)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    let update = std::fs::read(&tar).unwrap();
    let dest_dir = dest.to_str().unwrap().as_bytes();
    let handler = installed(
        &device,
        "directory",
        &[("dest_dir", dest_dir), ("update.tar", &update)],
    )
    .await;
    assert!(dest.join("new").exists() && !dest.join("old").exists());
    handler.rollback().await.unwrap();
    assert!(!dest.join("new").exists() && dest.join("old").exists());
    handler.cleanup().await.unwrap();
}

#[tokio::test]
async fn script_runs_every_file() {
    let Some(device) = device_with("script") else {
        return;
    };
    let mark = device.path("mark");
    let script = format!("#!/bin/sh\necho ran >> {}\n", mark.display());
    let artifact = build(
        &spec(Payload::Module("script".into())),
        &[("hello.sh", script.as_bytes())],
    );
    let handler = device.fetch(&artifact).await.unwrap().handler.unwrap();
    handler.install().await.unwrap();
    assert_eq!(read(&mark), "ran\n");
    assert!(!handler.supports_rollback().await.unwrap());
}
