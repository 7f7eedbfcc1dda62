//! The modules `single-file` and `directory`, called the way the agent calls them, and what is true of all modules.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ambidex_artifact::Payload;
use ambidex_install::{Handler, HandlerError, Reboot};
use support::stock::{Moment, Stock, content, deployment, give_up};
use support::{Device, build, read, spec};

fn device_with(module: &str) -> Device {
    let mut device = Device::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../update-modules")
        .join(module);
    device.context.modules_dir = std::fs::canonicalize(folder).unwrap();
    device
}

async fn fetched(device: &Device, module: &str, files: &[(&str, &[u8])]) -> Handler {
    let artifact = build(&spec(Payload::Module(module.into())), files);
    device.fetch(&artifact).await.unwrap().handler.unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn single_file(device: &Device, dir: &Path, permissions: Option<&str>) -> Handler {
    let dir = dir.to_str().unwrap().as_bytes();
    let mut files: Vec<(&str, &[u8])> = vec![
        ("dest_dir", dir),
        ("filename", b"app.conf\n"),
        ("app.conf", b"new"),
    ];
    if let Some(permissions) = permissions {
        files.push(("permissions", permissions.as_bytes()));
    }
    fetched(device, "single-file", &files).await
}

#[tokio::test]
async fn a_single_file_keeps_its_mode_and_comes_back() {
    let device = device_with("single-file");
    let dir = device.path("etc");
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("app.conf");
    std::fs::write(&file, "old").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let handler = single_file(&device, &dir, None).await;
    // twice, as after a power cut: the backup must stay that of the old file
    handler.install().await.unwrap();
    handler.install().await.unwrap();
    assert_eq!((read(&file).as_str(), mode(&file)), ("new", 0o640));
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
    assert!(handler.supports_rollback().await.unwrap());
    handler.rollback().await.unwrap();
    handler.rollback().await.unwrap();
    assert_eq!((read(&file).as_str(), mode(&file)), ("old", 0o640));
    assert_eq!(names(&dir), ["app.conf"]);

    let handler = single_file(&device, &dir, Some("0600\n")).await;
    handler.install().await.unwrap();
    handler.commit().await.unwrap();
    handler.cleanup().await.unwrap();
    assert_eq!((read(&file).as_str(), mode(&file)), ("new", 0o600));
}

#[tokio::test]
async fn a_file_that_was_not_there_vanishes_again_with_its_directories() {
    let device = device_with("single-file");
    let base = device.path("base");
    std::fs::create_dir(&base).unwrap();
    let dir = base.join("deep/er");
    let handler = single_file(&device, &dir, None).await;
    handler.rollback().await.unwrap(); // before anything was done
    handler.install().await.unwrap();
    assert_eq!(
        (
            read(&dir.join("app.conf")).as_str(),
            mode(&dir.join("app.conf"))
        ),
        ("new", 0o644)
    );
    handler.rollback().await.unwrap();
    assert_eq!(names(&base), [""; 0]);
}

#[tokio::test]
async fn wrong_targets_are_refused_by_name() {
    let device = device_with("single-file");
    std::fs::create_dir(device.path("app.conf")).unwrap();
    let parent = device.path("");
    for (dest_dir, filename, permissions) in [
        ("relative", "app.conf", "644"),
        ("/tmp", "../app.conf", "644"),
        ("/tmp", "", "644"),
        ("/tmp", "app.conf", "rwx"),
        ("/tmp", "other", "644"),
        (parent.to_str().unwrap(), "app.conf", "644"),
    ] {
        let files: [(&str, &[u8]); 4] = [
            ("dest_dir", dest_dir.as_bytes()),
            ("filename", filename.as_bytes()),
            ("permissions", permissions.as_bytes()),
            ("app.conf", b"new"),
        ];
        let handler = fetched(&device, "single-file", &files).await;
        let error = handler.install().await.unwrap_err();
        assert!(
            matches!(error, HandlerError::Failed { .. }),
            "{dest_dir} {filename}: {error}"
        );
    }
}

fn tar_of(device: &Device, content: &[(&str, &str)]) -> Vec<u8> {
    let (source, tar) = (device.path("source"), device.path("update.tar"));
    let _ = std::fs::remove_dir_all(&source);
    std::fs::create_dir(&source).unwrap();
    for (name, text) in content {
        std::fs::write(source.join(name), text).unwrap();
    }
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&source)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    std::fs::read(tar).unwrap()
}

async fn directory(device: &Device, dest: &Path) -> Handler {
    let tar = tar_of(device, &[("new", "n")]);
    let dest = dest.to_str().unwrap().as_bytes();
    fetched(
        device,
        "directory",
        &[("dest_dir", dest), ("update.tar", &tar)],
    )
    .await
}

fn old_directory(device: &Device) -> (PathBuf, PathBuf) {
    let base = device.path("base");
    let dest = base.join("www");
    std::fs::create_dir_all(&dest).unwrap();
    std::fs::write(dest.join("old"), "o").unwrap();
    (base, dest)
}

#[tokio::test]
async fn a_directory_is_replaced_and_committed() {
    let device = device_with("directory");
    let (base, dest) = old_directory(&device);
    // left by an interrupted update long ago: not to be gone back to
    std::fs::create_dir(base.join("www.update-old")).unwrap();
    let handler = directory(&device, &dest).await;
    handler.install().await.unwrap();
    handler.install().await.unwrap();
    assert_eq!(names(&dest), ["new"]);
    assert_eq!(names(&base.join("www.update-old")), ["old"]);
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
    handler.commit().await.unwrap();
    handler.cleanup().await.unwrap();
    assert_eq!(names(&base), ["www"]);
}

#[tokio::test]
async fn a_directory_comes_back_wherever_the_power_was_cut() {
    let device = device_with("directory");
    let (base, dest) = old_directory(&device);
    let handler = directory(&device, &dest).await;
    handler.rollback().await.unwrap();
    assert_eq!(names(&dest), ["old"]);
    handler.install().await.unwrap();
    // between the two renames
    std::fs::rename(&dest, base.join("www.update-new")).unwrap();
    handler.rollback().await.unwrap();
    handler.rollback().await.unwrap();
    assert_eq!(names(&dest), ["old"]);
    handler.cleanup().await.unwrap();
    assert_eq!(names(&base), ["www"]);

    // one that was not there, below a link
    let link = device.path("link");
    std::os::unix::fs::symlink(&base, &link).unwrap();
    let handler = directory(&device, &link.join("fresh")).await;
    handler.install().await.unwrap();
    assert_eq!(names(&base.join("fresh")), ["new"]);
    handler.rollback().await.unwrap();
    handler.cleanup().await.unwrap();
    assert_eq!(names(&base), ["www"]);
}

#[tokio::test]
async fn a_bad_archive_leaves_the_directory_alone() {
    let device = device_with("directory");
    let (_, dest) = old_directory(&device);
    let path = dest.to_str().unwrap().as_bytes();
    let handler = fetched(
        &device,
        "directory",
        &[("dest_dir", path), ("update.tar", &[7; 5000])],
    )
    .await;
    assert!(handler.install().await.is_err());
    assert_eq!(names(&dest), ["old"]);
    handler.rollback().await.unwrap();
    assert_eq!(names(&dest), ["old"]);
    for bad in ["/", "/proc", "relative"] {
        let files: [(&str, &[u8]); 2] = [("dest_dir", bad.as_bytes()), ("update.tar", b"")];
        let handler = fetched(&device, "directory", &files).await;
        assert!(handler.install().await.is_err(), "{bad}");
    }
}

/// A directory with something in it, a module that replaces it or a file in it, and what it brings.
fn replaced_in(stock: &Stock) -> (PathBuf, Vec<(&'static str, Vec<u8>)>) {
    let device = &stock.device;
    let base = device.path("base");
    let _ = std::fs::remove_dir_all(&base);
    std::fs::create_dir_all(base.join("www")).unwrap();
    std::fs::write(base.join("www/page"), "old").unwrap();
    let dest = base.join("www").to_str().unwrap().as_bytes().to_vec();
    let files = vec![
        ("dest_dir", dest),
        ("filename", b"page".to_vec()),
        ("page", b"new".to_vec()),
        ("update.tar", tar_of(device, &[("page", "new")])),
    ];
    (base, files)
}

#[tokio::test]
async fn a_power_cut_at_any_command_leaves_the_old_or_the_new_files() {
    for module in ["single-file", "directory"] {
        let stock = Stock::new(module);
        for moment in [
            Moment::Install,
            Moment::Rollback,
            Moment::Commit,
            Moment::Cleanup,
        ] {
            for at in 1.. {
                let (base, files) = replaced_in(&stock);
                let files: Vec<_> = files
                    .iter()
                    .map(|(name, data)| (*name, data.as_slice()))
                    .collect();
                let old = content(&base, &[]);
                let (cut, new) = deployment(&stock, &files, moment, at).await;
                if new {
                    assert_eq!(
                        read(&base.join("www/page")),
                        "new",
                        "{module} {moment:?} {at}"
                    );
                    assert_eq!(
                        content(&base, &[]).len(),
                        old.len(),
                        "{module} {moment:?} {at}"
                    );
                } else {
                    assert_eq!(content(&base, &[]), old, "{module} {moment:?} {at}");
                }
                if !cut {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn busybox_runs_them() {
    for module in ["single-file", "directory"] {
        let Some(stock) = Stock::new(module).with_busybox() else {
            return;
        };
        let (base, files) = replaced_in(&stock);
        let files: Vec<_> = files
            .iter()
            .map(|(name, data)| (*name, data.as_slice()))
            .collect();
        let old = content(&base, &[]);
        let handler = stock.fetch(&files).await;
        handler.install().await.unwrap();
        assert_eq!(read(&base.join("www/page")), "new", "{module}");
        give_up(&stock, &handler).await;
        assert_eq!(content(&base, &[]), old, "{module}");
    }
}

/// The programs in `update-modules/` that are scripts.
fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../update-modules");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            Some(entry.path().join(entry.file_name())).filter(|program| program.is_file())
        })
        .collect();
    found.sort();
    assert!(found.len() >= 6, "{found:?}");
    found
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if ambidex_harness::binaries::find_tool("shellcheck").is_none() {
        ambidex_harness::skip("shellcheck is not installed (Debian package shellcheck)");
        return;
    }
    let output = Command::new("shellcheck")
        .arg("--shell=sh")
        .args(scripts())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn calls_of_later_protocols_are_answered_with_silence() {
    for program in scripts() {
        let name = program.file_name().unwrap().to_str().unwrap();
        let stock = Stock::new(name);
        stock.fetch(&[("file", b"")]).await;
        let output = Command::new(&program)
            .args([
                "SupportsSomethingNew",
                stock.device.context.work_dir.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stdout.is_empty(),
            "{name}: {output:?}"
        );
    }
}
