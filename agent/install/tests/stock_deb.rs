//! The stock module `deb`: real dpkg on a root directory of its own.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use ambidex_harness::binaries::find_tool;
use ambidex_harness::skip;
use support::read;
use support::stock::{Stock, content, cut_everywhere, give_up};

/// A Debian system that is nothing but a package database.
struct Debian {
    stock: Stock,
}

/// A package to build.
#[derive(Default)]
struct Package<'a> {
    control: &'a str,
    files: &'a [(&'a str, &'a str)],
    conffiles: &'a [&'a str],
    scripts: &'a [(&'a str, String)],
}

impl Debian {
    fn new() -> Option<Self> {
        if find_tool("dpkg-deb").is_none() {
            skip("dpkg is not installed (Debian package dpkg)");
            return None;
        }
        let stock = Stock::new("deb");
        let root = stock.device.path("root");
        let archive = stock.device.path("archive");
        let database = root.join("var/lib/dpkg");
        for dir in ["info", "updates", "triggers"] {
            std::fs::create_dir_all(database.join(dir)).unwrap();
        }
        std::fs::create_dir_all(root.join("var/cache/apt/archives")).unwrap();
        std::fs::write(database.join("status"), "").unwrap();
        std::fs::write(stock.device.path("die"), "nowhere\n").unwrap();
        // the database is of a system that does not exist: no speed lost to its durability, no chroot
        let force = "unsafe-io,not-root,script-chrootless";
        let stock = stock
            .env("DPKG_ROOT", root)
            .env("DPKG_FORCE", force)
            .env("AMBIDEX_DEB_ARCHIVE", archive);
        // no test depends on what this machine happens to have
        stock.program("dpkg-repack", "#!/bin/sh\nexit 1\n");
        Some(Self { stock })
    }

    fn root(&self) -> PathBuf {
        self.stock.device.path("root")
    }

    fn build(&self, package: &Package) -> Vec<u8> {
        let dir = self.stock.device.path("build");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("DEBIAN")).unwrap();
        let control = format!(
            "{}\nArchitecture: all\nMaintainer: Nobody <nobody@example.com>\nDescription: for a test\n",
            package.control
        );
        std::fs::write(dir.join("DEBIAN/control"), control).unwrap();
        for (name, text) in package.files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let conffiles: String = package
            .conffiles
            .iter()
            .map(|name| format!("/{name}\n"))
            .collect();
        std::fs::write(dir.join("DEBIAN/conffiles"), conffiles).unwrap();
        for (name, text) in package.scripts {
            let path = dir.join("DEBIAN").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let file = self.stock.device.path("built.deb");
        let output = Command::new("dpkg-deb")
            .args(["-Znone", "--root-owner-group", "--build"])
            .arg(&dir)
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::read(file).unwrap()
    }

    /// `app` in a version, which owns a program, a setting and a file of its version only.
    fn app(&self, version: &str) -> Vec<u8> {
        let own = format!("usr/share/app/only-{version}");
        self.build(&Package {
            control: &format!("Package: app\nVersion: {version}"),
            files: &[
                ("usr/bin/app", version),
                ("etc/app.conf", &format!("of {version}")),
                (&own, ""),
            ],
            conffiles: &["etc/app.conf"],
            scripts: &self.scripts(version),
        })
    }

    /// Maintainer scripts that end everything when the test says so.
    fn scripts(&self, version: &str) -> Vec<(&'static str, String)> {
        let die = self.stock.device.path("die");
        let script = |name: &'static str| {
            let text = format!(
                "#!/bin/sh\nread -r die < {}\n[ \"$die\" != {name}-{version} ] || kill -9 0\n",
                die.display()
            );
            (name, text)
        };
        ["preinst", "postinst", "prerm", "postrm"]
            .map(script)
            .into()
    }

    fn die_in(&self, script: &str) {
        std::fs::write(self.stock.device.path("die"), format!("{script}\n")).unwrap();
    }

    /// A library that the second version of `app` brings along.
    fn library(&self) -> Vec<u8> {
        self.build(&Package {
            control: "Package: library\nVersion: 1:7",
            files: &[("usr/lib/library.so", "7")],
            ..Package::default()
        })
    }

    async fn install(&self, file: &[u8]) {
        let handler = self.stock.fetch(&[("first.deb", file)]).await;
        handler.install().await.unwrap();
        handler.commit().await.unwrap();
        handler.cleanup().await.unwrap();
    }

    fn packages(&self) -> String {
        let output = Command::new("dpkg-query")
            .env("DPKG_ROOT", self.root())
            .args(["-W", "-f=${Package} ${Version} ${Status}\n"])
            .output()
            .unwrap();
        // settings of packages that were removed count for nothing
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_inclusive('\n')
            .filter(|line| !line.contains("config-files"))
            .collect()
    }

    /// All that a rollback must bring back.
    fn system(&self) -> (BTreeMap<String, String>, String) {
        // the settings that dpkg did not put in place lie beside those that it kept
        let except = ["var/lib/dpkg", "etc/app.conf.dpkg-dist"];
        (content(&self.root(), &except), self.packages())
    }
}

const APP_1: &str = "app 1 install ok installed\n";
const BOTH_2: &str = "app 2 install ok installed\nlibrary 1:7 install ok installed\n";

#[tokio::test]
async fn packages_are_installed_and_the_previous_ones_come_back() {
    let Some(debian) = Debian::new() else { return };
    debian.install(&debian.app("1")).await;
    assert_eq!(debian.packages(), APP_1);
    let before = debian.system();
    let (app, library) = (debian.app("2"), debian.library());
    let files: [(&str, &[u8]); 2] = [("app.deb", &app), ("library.deb", &library)];
    let handler = debian.stock.fetch(&files).await;
    assert!(handler.supports_rollback().await.unwrap());
    handler.rollback().await.unwrap(); // before anything was done
    handler.install().await.unwrap();
    handler.install().await.unwrap();
    assert_eq!(debian.packages(), BOTH_2);
    assert_eq!(read(&debian.root().join("etc/app.conf")), "of 2");
    give_up(&debian.stock, &handler).await;
    assert_eq!(debian.system(), before);

    // forward, and the archive holds what runs now, and nothing else
    let handler = debian.stock.fetch(&files).await;
    handler.install().await.unwrap();
    handler.commit().await.unwrap();
    handler.cleanup().await.unwrap();
    assert_eq!(debian.packages(), BOTH_2);
    let kept = content(&debian.stock.device.path("archive"), &[]);
    assert_eq!(
        Vec::from_iter(kept.keys()),
        ["app_2_all.deb", "library_1%3a7_all.deb"]
    );
}

#[tokio::test]
async fn changed_settings_stay_on_the_way_there_and_back() {
    let Some(debian) = Debian::new() else { return };
    debian.install(&debian.app("1")).await;
    let setting = debian.root().join("etc/app.conf");
    std::fs::write(&setting, "by hand").unwrap();
    let handler = debian.stock.fetch(&[("app.deb", &debian.app("2"))]).await;
    handler.install().await.unwrap();
    assert_eq!(read(&setting), "by hand");
    give_up(&debian.stock, &handler).await;
    assert_eq!(
        (read(&setting).as_str(), debian.packages().as_str()),
        ("by hand", APP_1)
    );
}

#[tokio::test]
async fn without_the_previous_file_there_is_no_rollback() {
    let Some(debian) = Debian::new() else { return };
    debian.install(&debian.app("1")).await;
    let kept = debian.stock.device.path("archive/app_1_all.deb");
    let whole = std::fs::read(&kept).unwrap();
    for file in [None, Some(&whole[..whole.len() - 600])] {
        match file {
            None => std::fs::remove_file(&kept).unwrap(),
            Some(damaged) => std::fs::write(&kept, damaged).unwrap(),
        }
        let handler = debian.stock.fetch(&[("app.deb", &debian.app("2"))]).await;
        handler.install().await.unwrap();
        assert!(!handler.supports_rollback().await.unwrap());
        assert!(handler.rollback().await.is_err());
        handler.cleanup().await.unwrap();
        assert_eq!(debian.packages(), "app 2 install ok installed\n");
        debian.install(&debian.app("1")).await;
    }

    // apt's cache will do as well
    std::fs::remove_file(&kept).unwrap();
    let cached = debian.root().join("var/cache/apt/archives/app_1_all.deb");
    std::fs::write(cached, whole).unwrap();
    let handler = debian.stock.fetch(&[("app.deb", &debian.app("2"))]).await;
    handler.install().await.unwrap();
    give_up(&debian.stock, &handler).await;
    assert_eq!(debian.packages(), APP_1);
}

#[tokio::test]
async fn a_package_is_repacked_where_no_file_is_left() {
    let Some(debian) = Debian::new() else { return };
    let Some(repack) = find_tool("dpkg-repack") else {
        skip("dpkg-repack is not installed (Debian package dpkg-repack)");
        return;
    };
    debian.stock.program(
        "dpkg-repack",
        &format!("#!/bin/sh\nexec {} \"$@\"\n", repack.display()),
    );
    debian.install(&debian.app("1")).await;
    std::fs::remove_dir_all(debian.stock.device.path("archive")).unwrap();
    std::fs::write(debian.root().join("etc/app.conf"), "by hand").unwrap();
    let before = debian.system();
    let handler = debian.stock.fetch(&[("app.deb", &debian.app("2"))]).await;
    handler.install().await.unwrap();
    assert_eq!(debian.packages(), "app 2 install ok installed\n");
    give_up(&debian.stock, &handler).await;
    assert_eq!(debian.system(), before);
}

#[tokio::test]
async fn an_update_that_drives_another_package_out_has_no_rollback() {
    let Some(debian) = Debian::new() else { return };
    debian.install(&debian.app("1")).await;
    let rival = debian.build(&Package {
        control: "Package: rival\nVersion: 1\nConflicts: app\nReplaces: app\nProvides: app",
        ..Package::default()
    });
    let handler = debian.stock.fetch(&[("rival.deb", &rival)]).await;
    handler.install().await.unwrap();
    assert!(!handler.supports_rollback().await.unwrap());
    assert!(handler.rollback().await.is_err());
}

#[tokio::test]
async fn payloads_that_cannot_be_installed_change_nothing() {
    let Some(debian) = Debian::new() else { return };
    debian.install(&debian.app("1")).await;
    let before = debian.system();
    let (app, library) = (debian.app("2"), debian.library());
    let needy = debian.build(&Package {
        control: "Package: needy\nVersion: 1\nDepends: nowhere",
        ..Package::default()
    });
    let payloads: [&[(&str, &[u8])]; 5] = [
        &[("app.txt", &app)],
        &[("app.deb", b"not a package")],
        &[("app.deb", &app), ("again.deb", &app)],
        &[("app.deb", &app), ("needy.deb", &needy)],
        &[
            ("app.deb", &app[..app.len() - 600]),
            ("library.deb", &library),
        ],
    ];
    for files in payloads {
        let handler = debian.stock.fetch(files).await;
        assert!(handler.install().await.is_err());
        give_up(&debian.stock, &handler).await;
        assert_eq!(debian.system(), before);
    }
}

#[tokio::test]
async fn a_power_cut_at_any_command_leaves_the_old_or_the_new_system() {
    let Some(debian) = Debian::new() else { return };
    let first = debian.app("1");
    debian.install(&first).await;
    let (app, library) = (debian.app("2"), debian.library());
    let files: [(&str, &[u8]); 2] = [("app.deb", &app), ("library.deb", &library)];
    let back = async |place: &str| {
        assert_eq!(debian.packages(), BOTH_2, "{place}");
        assert!(debian.root().join("usr/share/app/only-2").exists());
        debian.install(&first).await;
        let dpkg = Command::new("dpkg")
            .env("DPKG_ROOT", debian.root())
            .env("DPKG_FORCE", "not-root,unsafe-io")
            .args(["-r", "library"])
            .output();
        assert!(dpkg.unwrap().status.success());
    };
    cut_everywhere(&debian.stock, &files, || debian.system(), back).await;
}

#[tokio::test]
async fn a_power_cut_within_dpkg_is_rolled_back() {
    let Some(debian) = Debian::new() else { return };
    debian.install(&debian.app("1")).await;
    let old = debian.system();
    let (app, library) = (debian.app("2"), debian.library());
    let files: [(&str, &[u8]); 2] = [("app.deb", &app), ("library.deb", &library)];
    for script in ["prerm-1", "preinst-2", "postrm-1", "postinst-2"] {
        debian.die_in(script);
        let handler = debian.stock.fetch(&files).await;
        assert!(handler.install().await.is_err(), "{script}");
        debian.die_in("nowhere");
        give_up(&debian.stock, &handler).await;
        assert_eq!(debian.system(), old, "{script}");
    }
    // and on the way back
    for script in ["prerm-2", "preinst-1", "postrm-2", "postinst-1"] {
        let handler = debian.stock.fetch(&files).await;
        handler.install().await.unwrap();
        debian.die_in(script);
        assert!(handler.rollback().await.is_err(), "{script}");
        debian.die_in("nowhere");
        give_up(&debian.stock, &handler).await;
        assert_eq!(debian.system(), old, "{script}");
    }
    // a package that was not there before
    for script in ["preinst-9", "postinst-9"] {
        let fresh = debian.build(&Package {
            control: "Package: fresh\nVersion: 9",
            files: &[("usr/bin/fresh", "9")],
            scripts: &debian.scripts("9"),
            ..Package::default()
        });
        debian.die_in(script);
        let handler = debian.stock.fetch(&[("fresh.deb", &fresh)]).await;
        assert!(handler.install().await.is_err(), "{script}");
        debian.die_in("nowhere");
        give_up(&debian.stock, &handler).await;
        assert!(!debian.root().join("usr/bin/fresh").exists(), "{script}");
        assert_eq!(debian.system(), old, "{script}");
    }
}

#[tokio::test]
async fn busybox_runs_it() {
    let Some(debian) = Debian::new() else { return };
    let Some(stock) = debian.stock.with_busybox() else {
        return;
    };
    let debian = Debian { stock };
    debian.install(&debian.app("1")).await;
    let before = debian.system();
    let handler = debian.stock.fetch(&[("app.deb", &debian.app("2"))]).await;
    handler.install().await.unwrap();
    assert_eq!(debian.packages(), "app 2 install ok installed\n");
    give_up(&debian.stock, &handler).await;
    assert_eq!(debian.system(), before);
}
