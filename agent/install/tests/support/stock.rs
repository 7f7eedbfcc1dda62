//! One of the modules in `update-modules/` on a device of its own: started by a shell and with programs that the
//! test chooses, and stopped as by a power cut at any of the commands that change something.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ambidex_artifact::{Payload, ROOTFS_IMAGE};
use ambidex_install::Handler;

use super::{Device, build, spec};

/// What the modules change the device with, besides the tools of their payloads.
const CHANGING: [&str; 6] = ["chmod", "cp", "dpkg", "mkdir", "mv", "rm"];
/// What the modules use in all; dpkg insists on its own tar.
const APPLETS: [&str; 15] = [
    "awk", "basename", "cat", "chmod", "cp", "dirname", "find", "grep", "head", "mkdir", "mv",
    "rm", "rmdir", "sed", "sync",
];

/// A module, ready to be called by the agent.
pub struct Stock {
    pub device: Device,
    module: String,
    path: PathBuf,
    shell: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Stock {
    pub fn new(module: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../update-modules");
        Self::of(module, folder.join(module).join(module))
    }

    /// A program of somebody else.
    pub fn of(module: &str, path: PathBuf) -> Self {
        let device = Device::new();
        std::fs::create_dir(device.path("bin")).unwrap();
        let stock = Self {
            device,
            module: module.to_owned(),
            path,
            shell: vec!["/bin/sh".to_owned()],
            env: BTreeMap::new(),
        };
        for name in CHANGING {
            stock.shim(name);
        }
        // waiting for the disk takes long and changes nothing here
        stock.program("sync", "#!/bin/sh\n");
        stock.cut_at(None);
        stock
    }

    /// `None`, and the test counts as skipped, where there is no busybox.
    pub fn with_busybox(mut self) -> Option<Self> {
        let Some(busybox) = ambidex_harness::binaries::find_tool("busybox") else {
            ambidex_harness::skip("busybox is not installed (Debian package busybox)");
            return None;
        };
        for applet in APPLETS {
            let link = self.device.path("bin").join(applet);
            let _ = std::fs::remove_file(&link);
            symlink(&busybox, link).unwrap();
        }
        self.shell = vec![busybox.to_str().unwrap().to_owned(), "sh".to_owned()];
        Some(self)
    }

    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref().to_str().unwrap().to_owned();
        self.env.insert(name.to_owned(), value);
        self
    }

    /// A program that the module finds before those of the system.
    pub fn program(&self, name: &str, text: &str) {
        let path = self.device.path("bin").join(name);
        write_program(&path, text);
    }

    /// A program of the system that counts and may end in a power cut before it does anything.
    fn shim(&self, name: &str) {
        let Some(program) = ambidex_harness::binaries::find_tool(name) else {
            return;
        };
        let program = format!("{}exec {} \"$@\"\n", self.may_cut(), program.display());
        self.program(name, &program);
    }

    /// Shell commands for programs of tests: ends the whole module when its time has come.
    pub fn may_cut(&self) -> String {
        let (count, at) = (self.device.path("count"), self.device.path("cut-at"));
        format!(
            "#!/bin/sh\nread -r n < {count}; n=$((n + 1)); echo $n > {count}; read -r at < {at}\n\
             [ $n != \"$at\" ] || kill -9 0\n",
            count = count.display(),
            at = at.display()
        )
    }

    /// What the module said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.device.path("log")).unwrap_or_default()
    }

    /// The same for calls of some kinds only, a pattern of `case`.
    pub fn may_cut_when(&self, pattern: &str) -> String {
        let cut = self.may_cut();
        let cut = cut.trim_start_matches("#!/bin/sh\n");
        format!("#!/bin/sh\ncase {pattern}) {cut};; esac\n")
    }

    /// Cuts the power at the n-th changing command from now on; never with `None`.
    pub fn cut_at(&self, at: Option<usize>) {
        let at = at.unwrap_or(usize::MAX);
        std::fs::write(self.device.path("cut-at"), format!("{at}\n")).unwrap();
        std::fs::write(self.device.path("count"), "0\n").unwrap();
    }

    /// A call by hand: the file tree stays, as it does when the agent dies together with the module.
    fn call(&self, call: &str) -> bool {
        let status = Command::new(self.device.context.modules_dir.join(&self.module))
            .arg(call)
            .arg(&self.device.context.work_dir)
            .process_group(0)
            .status();
        status.unwrap().success()
    }

    /// The module with this payload, downloaded.
    pub async fn fetch(&self, files: &[(&str, &[u8])]) -> Handler {
        let mut wrapper = format!(
            "#!/bin/sh\nPATH={}:/usr/sbin:/usr/bin:/sbin:/bin; export PATH\nexec 2>> {}\n",
            self.device.path("bin").display(),
            self.device.path("log").display()
        );
        for (name, value) in &self.env {
            wrapper += &format!("{name}='{value}'; export {name}\n");
        }
        wrapper += &format!(
            "exec {} {} \"$@\"\n",
            self.shell.join(" "),
            self.path.display()
        );
        write_program(
            &self.device.context.modules_dir.join(&self.module),
            &wrapper,
        );
        let payload = match self.module.as_str() {
            ROOTFS_IMAGE => Payload::RootfsImage,
            module => Payload::Module(module.to_owned()),
        };
        let artifact = build(&spec(payload), files);
        self.device.fetch(&artifact).await.unwrap().handler.unwrap()
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the agent does after a failure.
pub async fn give_up(stock: &Stock, handler: &Handler) {
    assert!(
        handler.supports_rollback().await.unwrap(),
        "{}",
        stock.log()
    );
    let back = handler.rollback().await;
    assert!(back.is_ok(), "{}", stock.log());
    handler.failure().await.unwrap();
    handler.cleanup().await.unwrap();
}

/// Where a power cut may come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    Install,
    Rollback,
    Commit,
    Cleanup,
}

/// One deployment with the power cut at the n-th changing command of one call, continued as the agent does.
/// Whether the cut came (it does not when the call has fewer commands), and whether the new software runs.
pub async fn deployment(
    stock: &Stock,
    files: &[(&str, &[u8])],
    when: Moment,
    at: usize,
) -> (bool, bool) {
    let handler = stock.fetch(files).await;
    let armed = |moment| stock.cut_at((when == moment).then_some(at));
    armed(Moment::Install);
    if handler.install().await.is_err() {
        assert_eq!(when, Moment::Install);
        stock.cut_at(None);
        give_up(stock, &handler).await;
        return (true, false);
    }
    if when == Moment::Rollback {
        armed(Moment::Rollback);
        let cut = handler.rollback().await.is_err();
        stock.cut_at(None);
        give_up(stock, &handler).await;
        return (cut, false);
    }
    armed(Moment::Commit);
    if handler.commit().await.is_err() {
        stock.cut_at(None);
        give_up(stock, &handler).await;
        return (true, false);
    }
    armed(Moment::Cleanup);
    let cut = when == Moment::Cleanup && !stock.call("Cleanup");
    stock.cut_at(None);
    handler.cleanup().await.unwrap();
    (cut, true)
}

/// Cuts the power at every command of every call: what comes out is the old system, or the new one, which
/// `back` checks and takes back to the old one.
pub async fn cut_everywhere<S: PartialEq + std::fmt::Debug>(
    stock: &Stock,
    files: &[(&str, &[u8])],
    system: impl Fn() -> S,
    mut back: impl AsyncFnMut(&str),
) {
    let old = system();
    for moment in [
        Moment::Install,
        Moment::Rollback,
        Moment::Commit,
        Moment::Cleanup,
    ] {
        for at in 1.. {
            let place = format!("{moment:?} {at}");
            let (cut, new) = deployment(stock, files, moment, at).await;
            if new {
                back(&place).await;
            }
            assert_eq!(system(), old, "{place}");
            if !cut {
                assert!(
                    at > 1 || moment == Moment::Commit,
                    "{moment:?} has no command to cut at"
                );
                break;
            }
        }
    }
}

/// Every file below a directory with its mode and content; links with their target.
pub fn content(root: &Path, except: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if except.contains(&name.as_str()) {
                continue;
            }
            let data = std::fs::symlink_metadata(&path).unwrap();
            let text = if data.is_dir() {
                pending.push(path);
                "directory".to_owned()
            } else if data.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).unwrap().display())
            } else {
                String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
            };
            found.insert(
                name,
                format!("{:o} {text}", data.permissions().mode() & 0o7777),
            );
        }
    }
    found
}
