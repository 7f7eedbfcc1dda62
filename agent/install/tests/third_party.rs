//! Row M10: modules written for the reference client run unmodified. They come from Debian's package
//! `mender-client`, and from the directories that `AMBIDEX_UPSTREAM_MODULES` names (separated by colons), such as
//! `support/modules` in a copy of the reference's sources or a copy of the repository of community modules. A module
//! that is not there skips its tests.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use ambidex_artifact::Payload;
use ambidex_install::{Handler, Reboot};
use support::stock::{Stock, give_up};
use support::{Device, build, read, spec};

const DEBIAN: &str = "/usr/share/mender/modules/v3";
const UPSTREAM: &str = "AMBIDEX_UPSTREAM_MODULES";

/// Where the program of a module is.
fn find(module: &str) -> Option<PathBuf> {
    let named = std::env::var_os(UPSTREAM).unwrap_or_default();
    let found = std::env::split_paths(&named)
        .chain([PathBuf::from(DEBIAN)])
        .flat_map(|dir| {
            [
                dir.join(module),
                dir.join(module).join("module").join(module),
            ]
        })
        .find(|path| path.is_file());
    if found.is_none() {
        ambidex_harness::skip(&format!(
            "there is no module {module} in {DEBIAN} (Debian package mender-client) nor where {UPSTREAM} says"
        ));
    }
    found
}

fn device_with(module: &str) -> Option<Device> {
    let path = find(module)?;
    let mut device = Device::new();
    device.context.modules_dir = path.parent().unwrap().to_owned();
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

/// A program that notes its arguments, and does `more`.
fn recorder(stock: &Stock, name: &str, more: &str) {
    let notes = stock.device.path("notes");
    stock.program(
        name,
        &format!(
            "#!/bin/sh\necho {name} \"$*\" >> {}\n{more}\n",
            notes.display()
        ),
    );
}

fn notes(stock: &Stock) -> String {
    let text = read(&stock.device.path("notes"));
    text.replace(stock.device.context.work_dir.to_str().unwrap(), "TREE")
}

#[tokio::test]
async fn packages_reach_their_tools() {
    for (module, tool, file, wanted) in [
        ("deb", "dpkg", "app.deb", "dpkg -i TREE/files/app.deb\n"),
        (
            "rpm",
            "rpm",
            "app.rpm",
            "rpm -U -v --force TREE/files/app.rpm\n",
        ),
    ] {
        let Some(path) = find(module) else { continue };
        let stock = Stock::of(module, path);
        recorder(&stock, tool, "");
        let handler = stock.fetch(&[(file, b"package")]).await;
        handler.install().await.unwrap();
        assert_eq!(notes(&stock), wanted);
        assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
        assert!(!handler.supports_rollback().await.unwrap());
        handler.commit().await.unwrap();
        handler.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn docker_starts_new_containers_and_the_old_ones_again() {
    let Some(path) = find("docker") else { return };
    let stock = Stock::of("docker", path);
    recorder(&stock, "docker", "[ \"$1\" != ps ] || echo 0123");
    stock.program(
        "jq",
        "#!/bin/sh\ncase \"$2\" in *containers*) echo alpine:3;; esac\n",
    );
    let handler = stock.fetch(&[("nothing", b"")]).await;
    handler.install().await.unwrap();
    give_up(&stock, &handler).await;
    let notes = notes(&stock);
    for call in [
        "docker stop 0123",
        "docker pull alpine:3",
        "docker run -dt alpine:3",
        "docker start 0123",
    ] {
        assert!(notes.contains(call), "{call}: {notes}");
    }
}

/// A device with two slots that are files, and the tools that the module asks about the bootloader and the root.
fn with_slots(path: PathBuf) -> Stock {
    let stock = Stock::of("rootfs-image", path);
    let (env, root) = (stock.device.path("env"), stock.device.path("root-device"));
    let (a, b) = (stock.device.path("slot2"), stock.device.path("slot3"));
    for (slot, content) in [(&a, "old"), (&b, "older")] {
        std::fs::write(slot, content).unwrap();
    }
    std::fs::write(
        &env,
        "mender_check_saveenv_canary=1\nmender_saveenv_canary=1\n\
         mender_boot_part=2\nmender_boot_part_hex=2\nupgrade_available=0\nbootcount=0\n",
    )
    .unwrap();
    std::fs::write(&root, a.to_str().unwrap()).unwrap();
    std::fs::create_dir(stock.device.path("conf")).unwrap();
    let conf = format!(
        r#"{{"RootfsPartA": "{}", "RootfsPartB": "{}"}}"#,
        a.display(),
        b.display()
    );
    std::fs::write(stock.device.path("conf/mender.conf"), conf).unwrap();
    stock.program("findfs", &format!("#!/bin/sh\ncat {}\n", root.display()));
    stock.program(
        "grub-mender-grubenv-print",
        &format!("#!/bin/sh\ngrep \"^$1=\" {}\n", env.display()),
    );
    let set = format!(
        "#!/bin/sh\nenv={}\nif [ \"$1\" = -s ]; then cat; else echo \"$1=$2\"; fi | while read -r line; do\n\
         sed -i \"s|^${{line%%=*}}=.*|$line|\" $env; done\n",
        env.display()
    );
    stock.program("grub-mender-grubenv-set", &set);
    let conf = stock.device.path("conf");
    let mut stock = stock.env("MENDER_CONF_DIR", conf);
    stock.device.context.rootfs_module = true;
    stock
}

fn boot(stock: &Stock, slot: &str) {
    let device = stock.device.path(slot);
    std::fs::write(stock.device.path("root-device"), device.to_str().unwrap()).unwrap();
}

#[tokio::test]
async fn rootfs_image_fills_the_other_slot_commits_and_rolls_back() {
    let Some(path) = find("rootfs-image") else {
        return;
    };
    let image = support::noise(300_000, 1);
    let stock = with_slots(path);
    let env = stock.device.path("env");
    let handler = stock.fetch(&[("system.img", &image)]).await;
    assert!(matches!(handler, Handler::Module(_)));
    assert!(std::fs::read(stock.device.path("slot3")).unwrap() == image);
    handler.install().await.unwrap();
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::Automatic);
    assert!(read(&env).contains("mender_boot_part=3\nmender_boot_part_hex=3\nupgrade_available=1"));
    assert!(
        handler.verify_reboot().await.is_err(),
        "the old slot still runs"
    );
    boot(&stock, "slot3");
    handler.verify_reboot().await.unwrap();
    handler.rollback().await.unwrap();
    boot(&stock, "slot2");
    handler.verify_rollback_reboot().await.unwrap();
    give_up(&stock, &handler).await;
    assert!(read(&env).contains("mender_boot_part=2\nmender_boot_part_hex=2\nupgrade_available=0"));

    let handler = stock.fetch(&[("system.img", &image)]).await;
    handler.install().await.unwrap();
    boot(&stock, "slot3");
    handler.verify_reboot().await.unwrap();
    handler.commit().await.unwrap();
    handler.cleanup().await.unwrap();
    assert!(read(&env).contains("mender_boot_part=3\nmender_boot_part_hex=3\nupgrade_available=0"));
    assert_eq!(read(&stock.device.path("slot2")), "old");
}
