//! A device in a temporary directory: modules written in sh that record their calls, slots that
//! are plain files, GRUB environment blocks.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod stock;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambidex_artifact::{
    ArtifactSpec, Compression, CompressionChoice, Payload, PayloadSource, Verification,
};
use ambidex_install::boot::{Boot, BootConfig, BootEnv, BootKind};
use ambidex_install::{FetchError, FetchOptions, Fetched, InstallContext, RootfsConfig, fetch};

pub struct Device {
    dir: tempfile::TempDir,
    pub context: InstallContext,
}

/// Everything a module needs to record its calls; `$CALL`, `$TREE` and `log` are set up.
const PRELUDE: &str = r#"#!/bin/sh
CALL="$1"; TREE="$2"
log() { echo "$*" >> "@LOG@"; }
log "$CALL"
"#;

impl Device {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let modules = dir.path().join("modules");
        std::fs::create_dir_all(&modules).unwrap();
        std::fs::create_dir_all(&state).unwrap();
        let mut context = InstallContext::new(
            modules,
            state.join("modules/v3/payloads/0000/tree"),
            state.join("scripts"),
            "board-7",
        );
        context.current_name = "release-1".to_owned();
        context.module_timeout = Duration::from_secs(30);
        Self { dir, context }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn tree(&self, name: &str) -> PathBuf {
        self.context.work_dir.join(name)
    }

    /// Installs a module of type `app` whose body follows the recording prelude.
    pub fn module(&self, body: &str) {
        let prelude = PRELUDE.replace("@LOG@", &self.path("calls").to_string_lossy());
        let path = self.context.modules_dir.join("app");
        std::fs::write(&path, prelude + body).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the module recorded so far, one entry per line.
    pub fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn options(&self) -> FetchOptions {
        FetchOptions::new(Verification::Ignore)
    }

    pub async fn fetch(&self, artifact: &[u8]) -> Result<Fetched, FetchError> {
        self.fetch_with(artifact, self.options()).await
    }

    pub async fn fetch_with(
        &self,
        artifact: &[u8],
        options: FetchOptions,
    ) -> Result<Fetched, FetchError> {
        fetch(Cursor::new(artifact.to_vec()), &self.context, options).await
    }

    /// Two slots of this size, slot 2 running, and a GRUB environment that says so.
    pub fn with_slots(mut self, bytes: usize) -> Self {
        for (name, fill) in [("slot2", 0xA2), ("slot3", 0xB3)] {
            std::fs::write(self.path(name), vec![fill; bytes]).unwrap();
        }
        let env_dir = self.path("env");
        std::fs::create_dir(&env_dir).unwrap();
        for copy in ["env1", "env2"] {
            let mut block =
                b"# GRUB Environment Block\nediting=0\nmender_boot_part=2\nupgrade_available=0\nbootcount=0\n".to_vec();
            block.resize(1024, b'#');
            std::fs::write(env_dir.join(copy), block).unwrap();
        }
        self.context.rootfs = RootfsConfig {
            part_a: Some(self.path("slot2")),
            part_b: Some(self.path("slot3")),
            block_class: None,
            boot: BootConfig {
                kind: BootKind::Grub,
                env_dir,
                ..BootConfig::default()
            },
            running_root: Some(self.path("root")),
            verify_written: true,
        };
        self.boot_slot(2);
        self
    }

    /// What a restart does to `/`.
    pub fn boot_slot(&self, number: u32) {
        let _ = std::fs::remove_file(self.path("root"));
        std::os::unix::fs::symlink(self.path(&format!("slot{number}")), self.path("root")).unwrap();
    }

    pub fn boot(&self) -> Boot {
        Boot::open(&self.context.rootfs.boot).unwrap()
    }

    pub async fn env(&self) -> BootEnv {
        self.boot().read().await.unwrap()
    }

    pub fn slot(&self, number: u32) -> Vec<u8> {
        std::fs::read(self.path(&format!("slot{number}"))).unwrap()
    }
}

pub fn spec(payload: Payload) -> ArtifactSpec {
    let mut spec = ArtifactSpec::new(
        payload,
        "release-2",
        vec!["board-6".into(), "board-7".into()],
    );
    spec.compression = CompressionChoice::of(Compression::Gzip);
    spec
}

pub fn app() -> ArtifactSpec {
    spec(Payload::Module("app".into()))
}

pub fn build(spec: &ArtifactSpec, files: &[(&str, &[u8])]) -> Vec<u8> {
    let sources: Vec<_> = files
        .iter()
        .map(|(name, content)| PayloadSource::from_bytes(*name, content))
        .collect();
    let mut out = Cursor::new(Vec::new());
    ambidex_artifact::write(spec, &sources, None, &mut out, &mut |_| {}).unwrap();
    out.into_inner()
}

/// Bytes that do not repeat within any block size in use.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub fn read(path: &Path) -> String {
    String::from_utf8(
        std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    )
    .unwrap()
}
