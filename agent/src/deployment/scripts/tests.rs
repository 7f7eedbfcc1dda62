use std::{os::unix::fs::PermissionsExt, time::Instant};

use super::*;
use crate::deployment::stop;

struct Bench {
    dir: tempfile::TempDir,
    scripts: Scripts,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let scripts = Scripts {
        rootfs_dir: dir.path().join("rootfs"),
        artifact_dir: dir.path().join("artifact"),
        limits: ScriptConfig {
            timeout: Duration::from_millis(400),
            retry_interval: Duration::from_millis(30),
            retry_timeout: Duration::from_millis(200),
        },
    };
    std::fs::create_dir(&scripts.rootfs_dir).unwrap();
    std::fs::create_dir(&scripts.artifact_dir).unwrap();
    Bench { dir, scripts }
}

impl Bench {
    fn write(&self, folder: &str, name: &str, mode: u32, body: &str) {
        let path = self.dir.path().join(folder).join(name);
        let trace = self.dir.path().join("trace");
        std::fs::write(
            &path,
            format!("#!/bin/sh\necho {name} >> {}\n{body}\n", trace.display()),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn version(&self, folder: &str, text: &str) {
        std::fs::write(self.dir.path().join(folder).join("version"), text).unwrap();
    }

    fn trace(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("trace")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn run(&self, state: State, action: Action) -> Result<(), ScriptError> {
        self.scripts.run(state, action, &Stop::never()).await
    }
}

const INSTALL: State = State::Deployment(ScriptState::ArtifactInstall);
const DOWNLOAD: State = State::Deployment(ScriptState::Download);

#[tokio::test]
async fn names_in_order_and_only_those_that_fit() {
    let bench = bench();
    for name in [
        "ArtifactInstall_Enter_20",
        "ArtifactInstall_Enter_03_b",
        "ArtifactInstall_Enter_03_a",
    ] {
        bench.write("artifact", name, 0o700, "");
    }
    for name in [
        "ArtifactInstall_Enter_3",
        "ArtifactInstall_Enter_04x",
        "ArtifactInstall_Leave_00",
        "ArtifactInstall_Enter",
        "xArtifactInstall_Enter_00",
    ] {
        bench.write("artifact", name, 0o700, "");
    }
    bench.write(
        "artifact",
        "ArtifactInstall_Enter_01_not_executable",
        0o600,
        "",
    );
    bench.write("rootfs", "ArtifactInstall_Enter_00_wrong_folder", 0o700, "");
    bench.run(INSTALL, Action::Enter).await.unwrap();
    let expected = [
        "ArtifactInstall_Enter_03_a",
        "ArtifactInstall_Enter_03_b",
        "ArtifactInstall_Enter_20",
    ];
    assert_eq!(bench.trace(), expected);
}

#[tokio::test]
async fn download_scripts_come_from_the_root_file_system() {
    let bench = bench();
    bench.write("rootfs", "Download_Enter_00", 0o700, "");
    bench.write("artifact", "Download_Enter_01", 0o700, "");
    bench.run(DOWNLOAD, Action::Enter).await.unwrap();
    assert_eq!(bench.trace(), ["Download_Enter_00"]);
}

#[tokio::test]
async fn the_first_failure_ends_it_but_not_for_error_and_idle() {
    let bench = bench();
    bench.write("artifact", "ArtifactInstall_Enter_00", 0o700, "exit 3");
    bench.write("artifact", "ArtifactInstall_Enter_01", 0o700, "");
    let text = bench
        .run(INSTALL, Action::Enter)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("ArtifactInstall_Enter_00") && text.contains("code 3"),
        "{text}"
    );
    assert_eq!(bench.trace(), ["ArtifactInstall_Enter_00"]);

    bench.write("artifact", "ArtifactInstall_Error_00", 0o700, "exit 3");
    bench.write("artifact", "ArtifactInstall_Error_01", 0o700, "");
    bench.run(INSTALL, Action::Error).await.unwrap();
    bench.write("rootfs", "Idle_Enter_00", 0o700, "exit 1");
    bench.write("rootfs", "Idle_Enter_01", 0o700, "");
    bench.run(State::Idle, Action::Enter).await.unwrap();
    bench.write("rootfs", "Sync_Enter_00", 0o700, "exit 1");
    bench.run(State::Sync, Action::Enter).await.unwrap_err();
    let expected = [
        "ArtifactInstall_Enter_00",
        "ArtifactInstall_Error_00",
        "ArtifactInstall_Error_01",
        "Idle_Enter_00",
        "Idle_Enter_01",
        "Sync_Enter_00",
    ];
    assert_eq!(bench.trace(), expected);
}

#[tokio::test]
async fn retry_later_is_retried_until_the_limit() {
    let bench = bench();
    let marker = bench.dir.path().join("again");
    let body = format!(
        "test -e {0} && exit 0; touch {0}; exit 21",
        marker.display()
    );
    bench.write("artifact", "ArtifactInstall_Enter_00", 0o700, &body);
    bench.run(INSTALL, Action::Enter).await.unwrap();
    assert_eq!(bench.trace().len(), 2);

    bench.write("artifact", "ArtifactInstall_Leave_00", 0o700, "exit 21");
    let error = bench.run(INSTALL, Action::Leave).await.unwrap_err();
    assert!(
        matches!(error, ScriptError::RetriesUsedUp { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_a_retry() {
    let mut bench = bench();
    bench.scripts.limits.retry_interval = Duration::from_secs(100);
    bench.scripts.limits.retry_timeout = Duration::from_secs(1000);
    bench.write("artifact", "ArtifactInstall_Enter_00", 0o700, "exit 21");
    let (stopper, stop) = stop::pair();
    let begun = Instant::now();
    let (outcome, ()) = tokio::join!(bench.scripts.run(INSTALL, Action::Enter, &stop), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stopper.stop();
    });
    assert!(matches!(outcome, Err(ScriptError::Stopped)));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_script_that_hangs_is_ended_with_its_children() {
    let bench = bench();
    let pid = bench.dir.path().join("pid");
    let body = format!("sleep 300 & echo $! > {}; wait", pid.display());
    bench.write("artifact", "ArtifactInstall_Enter_00", 0o700, &body);
    let text = bench
        .run(INSTALL, Action::Enter)
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("time limit"), "{text}");
    let pid = std::fs::read_to_string(pid).unwrap();
    let alive = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    for _ in 0..200 {
        if !alive() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the child {pid} still runs");
}

#[tokio::test]
async fn only_known_formats_run() {
    let bench = bench();
    bench.write("artifact", "ArtifactInstall_Enter_00", 0o700, "");
    for good in ["2", "3\n"] {
        bench.version("artifact", good);
        bench.run(INSTALL, Action::Enter).await.unwrap();
    }
    for bad in ["1", "9", "", "3x"] {
        bench.version("artifact", bad);
        let error = bench.run(INSTALL, Action::Enter).await.unwrap_err();
        assert!(matches!(error, ScriptError::Version { .. }), "{error}");
    }
    assert_eq!(bench.trace().len(), 2);
    bench.scripts.check_rootfs_version().unwrap();
    bench.version("rootfs", "9");
    bench.scripts.check_rootfs_version().unwrap_err();
}

#[tokio::test]
async fn no_folder_means_no_scripts() {
    let bench = bench();
    std::fs::remove_dir_all(bench.dir.path().join("artifact")).unwrap();
    bench.run(INSTALL, Action::Enter).await.unwrap();
}
