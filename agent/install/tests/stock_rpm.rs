//! The stock module `rpm`: the real rpm on a root directory and a package database of its own.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use ambidex_harness::binaries::find_tool;
use ambidex_harness::skip;
use support::read;
use support::stock::{Stock, content, cut_everywhere, give_up};

/// A system that is nothing but a package database.
struct Lab {
    stock: Stock,
}

impl Lab {
    fn new() -> Option<Self> {
        let (Some(rpm), Some(_)) = (find_tool("rpm"), find_tool("rpmbuild")) else {
            skip("rpm and rpmbuild are not installed (Debian package rpm)");
            return None;
        };
        let stock = Stock::new("rpm");
        let (archive, caches, root) = (
            stock.device.path("archive"),
            stock.device.path("caches"),
            stock.device.path("root"),
        );
        for dir in [&caches, &root] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(stock.device.path("die"), "nowhere\n").unwrap();
        // in a name space rpm may set owners without being root
        // questions change nothing: no need to cut the power at each of them
        let program = format!(
            "{}exec unshare --map-root-user {} --dbpath {} \"$@\"\n",
            stock.may_cut_when("\"$1\" in -U | -e"),
            rpm.display(),
            stock.device.path("database").display()
        );
        stock.program("rpm", &program);
        let lab = Self {
            stock: stock
                .env("AMBIDEX_RPM_ARCHIVE", archive)
                .env("AMBIDEX_RPM_CACHES", caches),
        };
        let works = lab.rpm(&["--initdb"]);
        if !works.status.success() {
            let reason = String::from_utf8_lossy(&works.stderr).into_owned();
            skip(&format!("no user name space for rpm: {reason}"));
            return None;
        }
        // scripts need a shell, and somebody has to say that there is one
        let shell = lab.stock.device.path("shell.rpm");
        std::fs::write(&shell, lab.build("shell", "1", "Provides: /bin/sh", &[])).unwrap();
        let done = lab.rpm(&["-i", "--noscripts", shell.to_str().unwrap()]);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        Some(lab)
    }

    fn rpm(&self, args: &[&str]) -> std::process::Output {
        Command::new(self.stock.device.path("bin/rpm"))
            .args(args)
            .output()
            .unwrap()
    }

    fn root(&self) -> PathBuf {
        self.stock.device.path("root")
    }

    /// A package with these files below the root directory of the test; its scripts end everything when the test says so.
    fn build(&self, name: &str, version: &str, tags: &str, files: &[(&str, &str)]) -> Vec<u8> {
        let (top, die) = (
            self.stock.device.path("build"),
            self.stock.device.path("die"),
        );
        let (root, die) = (self.root().display().to_string(), die.display());
        let _ = std::fs::remove_dir_all(&top);
        std::fs::create_dir(&top).unwrap();
        let mut spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: for a test\nLicense: none\nBuildArch: noarch\n\
             AutoReqProv: no\n{tags}\n%description\nfor a test\n%install\n"
        );
        let mut list = String::new();
        for (path, text) in files {
            let place = format!("%{{buildroot}}/{root}/{path}");
            spec += &format!("mkdir -p $(dirname {place})\nprintf '%s' '{text}' > {place}\n");
            let config = if path.starts_with("etc/") {
                "%config(noreplace) "
            } else {
                ""
            };
            list += &format!("{config}{root}/{path}\n");
        }
        for script in ["pre", "post", "preun", "postun"] {
            spec += &format!(
                "%{script}\nread -r die < {die}\n[ \"$die\" != {script}-{version} ] || kill -9 0\n"
            );
        }
        spec += &format!("%files\n{list}");
        let file = top.join("package.spec");
        std::fs::write(&file, spec).unwrap();
        let output = Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--define"])
            .arg(format!("_topdir {}", top.display()))
            .args([
                "--define",
                "_binary_payload w0.gzdio",
                "--define",
                "_build_id_links none",
            ])
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::read(top.join(format!("RPMS/noarch/{name}-{version}-1.noarch.rpm"))).unwrap()
    }

    fn app(&self, version: &str) -> Vec<u8> {
        let own = format!("usr/share/app/only-{version}");
        let setting = format!("of {version}");
        self.build(
            "app",
            version,
            "",
            &[
                ("usr/bin/app", version),
                ("etc/app.conf", &setting),
                (&own, "own"),
            ],
        )
    }

    fn library(&self) -> Vec<u8> {
        self.build("library", "7", "Epoch: 2", &[("usr/share/library", "7")])
    }

    fn die_in(&self, script: &str) {
        std::fs::write(self.stock.device.path("die"), format!("{script}\n")).unwrap();
    }

    async fn install(&self, file: &[u8]) {
        let handler = self.stock.fetch(&[("first.rpm", file)]).await;
        let done = handler.install().await;
        assert!(done.is_ok(), "{}", self.stock.log());
        handler.commit().await.unwrap();
        handler.cleanup().await.unwrap();
    }

    fn packages(&self) -> String {
        let output = self.rpm(&["-qa", "--qf", "%{NAME} %{EPOCHNUM}:%{VERSION}\n"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("shell "))
            .collect();
        lines.sort_unstable();
        lines.join(", ")
    }

    /// All that a rollback must bring back.
    fn system(&self) -> (BTreeMap<String, String>, String) {
        (content(&self.root(), &[]), self.packages())
    }
}

const APP_1: &str = "app 0:1";
const BOTH_2: &str = "app 0:2, library 2:7";

#[tokio::test]
async fn packages_are_installed_and_the_previous_ones_come_back() {
    let Some(lab) = Lab::new() else { return };
    lab.install(&lab.app("1")).await;
    assert_eq!(lab.packages(), APP_1);
    std::fs::write(lab.root().join("etc/app.conf"), "by hand").unwrap();
    let before = lab.system();
    let (app, library) = (lab.app("2"), lab.library());
    let files: [(&str, &[u8]); 2] = [("app.rpm", &app), ("library.rpm", &library)];
    let handler = lab.stock.fetch(&files).await;
    assert!(handler.supports_rollback().await.unwrap());
    handler.rollback().await.unwrap(); // before anything was done
    handler.install().await.unwrap();
    handler.install().await.unwrap();
    assert_eq!(lab.packages(), BOTH_2);
    assert_eq!(read(&lab.root().join("usr/bin/app")), "2");
    give_up(&lab.stock, &handler).await;
    let mut after = lab.system();
    // what rpm did not put in place lies beside what it kept
    after.0.remove("etc/app.conf.rpmnew");
    assert_eq!(after, before);

    // forward, and the archive holds what runs now, and nothing else
    let handler = lab.stock.fetch(&files).await;
    handler.install().await.unwrap();
    handler.commit().await.unwrap();
    handler.cleanup().await.unwrap();
    assert_eq!(lab.packages(), BOTH_2);
    let kept = content(&lab.stock.device.path("archive"), &[]);
    assert_eq!(
        Vec::from_iter(kept.keys()),
        ["app-2-1.noarch.rpm", "library-7-1.noarch.rpm"]
    );
}

#[tokio::test]
async fn without_the_previous_file_there_is_no_rollback() {
    let Some(lab) = Lab::new() else { return };
    lab.install(&lab.app("1")).await;
    let kept = lab.stock.device.path("archive/app-1-1.noarch.rpm");
    let whole = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, &whole[..whole.len() - 60]).unwrap();
    let handler = lab.stock.fetch(&[("app.rpm", &lab.app("2"))]).await;
    handler.install().await.unwrap();
    assert!(!handler.supports_rollback().await.unwrap());
    assert!(handler.rollback().await.is_err());
    handler.cleanup().await.unwrap();
    assert_eq!(lab.packages(), "app 0:2");

    // the cache of the package manager will do as well
    lab.install(&lab.app("1")).await;
    std::fs::remove_file(&kept).unwrap();
    let cache = lab.stock.device.path("caches/repository/packages");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::write(cache.join("app-1-1.noarch.rpm"), &whole).unwrap();
    let handler = lab.stock.fetch(&[("app.rpm", &lab.app("2"))]).await;
    handler.install().await.unwrap();
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.packages(), APP_1);
}

#[tokio::test]
async fn an_update_that_drives_another_package_out_has_no_rollback() {
    let Some(lab) = Lab::new() else { return };
    lab.install(&lab.app("1")).await;
    let rival = lab.build("rival", "1", "Obsoletes: app", &[("usr/bin/rival", "1")]);
    let handler = lab.stock.fetch(&[("rival.rpm", &rival)]).await;
    handler.install().await.unwrap();
    assert_eq!(lab.packages(), "rival 0:1");
    assert!(!handler.supports_rollback().await.unwrap());
    assert!(handler.rollback().await.is_err());
}

#[tokio::test]
async fn payloads_that_cannot_be_installed_change_nothing() {
    let Some(lab) = Lab::new() else { return };
    lab.install(&lab.app("1")).await;
    let before = lab.system();
    let (app, needy) = (
        lab.app("2"),
        lab.build("needy", "1", "Requires: nowhere", &[]),
    );
    let payloads: [&[(&str, &[u8])]; 5] = [
        &[("app.txt", &app)],
        &[("app.rpm", b"not a package")],
        &[("app.rpm", &app), ("again.rpm", &app)],
        &[("app.rpm", &app), ("needy.rpm", &needy)],
        &[("app.rpm", &app[..app.len() - 60])],
    ];
    for files in payloads {
        let handler = lab.stock.fetch(files).await;
        assert!(handler.install().await.is_err());
        give_up(&lab.stock, &handler).await;
        assert_eq!(lab.system(), before);
    }
}

#[tokio::test]
async fn a_power_cut_at_any_command_leaves_the_old_or_the_new_system() {
    let Some(lab) = Lab::new() else { return };
    let first = lab.app("1");
    lab.install(&first).await;
    let (app, library) = (lab.app("2"), lab.library());
    let files: [(&str, &[u8]); 2] = [("app.rpm", &app), ("library.rpm", &library)];
    let back = async |place: &str| {
        assert_eq!(lab.packages(), BOTH_2, "{place}");
        lab.install(&first).await;
        assert!(lab.rpm(&["-e", "library"]).status.success());
    };
    cut_everywhere(&lab.stock, &files, || lab.system(), back).await;
}

#[tokio::test]
async fn a_power_cut_within_rpm_is_rolled_back() {
    let Some(lab) = Lab::new() else { return };
    lab.install(&lab.app("1")).await;
    let old = lab.system();
    let (app, library) = (lab.app("2"), lab.library());
    let files: [(&str, &[u8]); 2] = [("app.rpm", &app), ("library.rpm", &library)];
    for script in ["pre-2", "post-2", "preun-1", "postun-1", "pre-7", "post-7"] {
        lab.die_in(script);
        let handler = lab.stock.fetch(&files).await;
        assert!(handler.install().await.is_err(), "{script}");
        lab.die_in("nowhere");
        give_up(&lab.stock, &handler).await;
        assert_eq!(lab.system(), old, "{script}");
    }
    // and on the way back
    for script in [
        "pre-1", "post-1", "preun-2", "postun-2", "preun-7", "postun-7",
    ] {
        let handler = lab.stock.fetch(&files).await;
        handler.install().await.unwrap();
        lab.die_in(script);
        assert!(handler.rollback().await.is_err(), "{script}");
        lab.die_in("nowhere");
        give_up(&lab.stock, &handler).await;
        assert_eq!(lab.system(), old, "{script}");
    }
}

#[tokio::test]
async fn busybox_runs_it() {
    let Some(lab) = Lab::new() else { return };
    let Some(stock) = lab.stock.with_busybox() else {
        return;
    };
    let lab = Lab { stock };
    lab.install(&lab.app("1")).await;
    let before = lab.system();
    let handler = lab.stock.fetch(&[("app.rpm", &lab.app("2"))]).await;
    handler.install().await.unwrap();
    assert_eq!(lab.packages(), "app 0:2");
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.system(), before);
}
