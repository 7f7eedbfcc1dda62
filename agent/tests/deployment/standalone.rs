//! The standalone verbs (C rows).

use crate::{
    s,
    trial::{Offer, Trial},
};

async fn trial(reboot: &str) -> (Trial, String) {
    let trial = Trial::new(reboot, "").await;
    let path = trial.device.path("new.mender");
    std::fs::write(
        &path,
        Offer::default().artifact(&trial.device.path("lab").display().to_string()),
    )
    .unwrap();
    (trial, path.display().to_string())
}

const INSTALLED: &str =
    "Download_Enter Download Download_Leave Install_Enter Install Install_Leave";
const COMMITTED: &str = "Commit_Enter Commit Commit_Leave Cleanup";
const BACK: &str =
    "Rollback_Enter Rollback Rollback_Leave Failure_Enter Failure Failure_Leave Cleanup";

#[tokio::test]
async fn c1_nothing_in_progress() {
    let (trial, _) = trial("No").await;
    for verb in ["commit", "rollback", "resume"] {
        let (code, text) = trial.verb(&[verb]);
        assert_eq!((code, text.trim()), (2, "No update in progress."), "{verb}");
    }
    let (code, _) = trial.verb(&["install", "/nonexistent.mender"]);
    assert_eq!(code, 1);
}

#[tokio::test]
async fn c3_installs_then_commits() {
    let (trial, path) = trial("No").await;
    let (code, text) = trial.verb(&["install", &path]);
    assert_eq!(code, 0);
    assert!(text.contains("Installed, but not committed."), "{text}");
    assert_eq!(trial.name(), "unknown");
    // C5: a second one is refused.
    assert_eq!(trial.verb(&["install", &path]).0, 1);
    let (code, text) = trial.verb(&["commit"]);
    assert_eq!((code, text.trim()), (0, "Committed."));
    assert_eq!(trial.trace(), s(&[INSTALLED, COMMITTED]));
    assert_eq!(trial.verb(&["show-artifact"]).1.trim(), "new");
    assert!(
        trial
            .verb(&["show-provides"])
            .1
            .contains("rootfs-image.mod.version=2")
    );
    assert!(!trial.tree().exists());
}

#[tokio::test]
async fn c3_installs_then_rolls_back() {
    let (trial, path) = trial("No").await;
    trial.verb(&["install", &path]);
    let (code, text) = trial.verb(&["rollback"]);
    assert_eq!((code, text.trim()), (0, "Rolled back."));
    assert_eq!(trial.trace(), s(&[INSTALLED, BACK]));
    assert_eq!(trial.name(), "unknown");
    assert_eq!(trial.verb(&["commit"]).0, 2);
}

#[tokio::test]
async fn c3_without_rollback_commits_at_once() {
    let (trial, path) = trial("No").await;
    trial.answers("SupportsRollback", "No");
    let (code, text) = trial.verb(&["install", &path]);
    assert_eq!(code, 0);
    assert!(text.contains("Installed and committed."), "{text}");
    assert_eq!(trial.trace(), s(&[INSTALLED, COMMITTED]));
    assert_eq!(trial.name(), "new");
}

#[tokio::test]
async fn c2_the_exit_code_for_a_reboot() {
    for (args, code) in [
        (&["install"][..], 0),
        (&["install", "--reboot-exit-code"][..], 4),
    ] {
        let (trial, path) = trial("Yes").await;
        let (found, text) = trial.verb(&[args, &[path.as_str()]].concat());
        assert_eq!(found, code);
        assert!(text.contains("requested a reboot"), "{text}");
        assert!(!trial.trace().contains("Reboot"), "never reboots by itself");
    }
}

#[tokio::test]
async fn c1_failures() {
    let (trial, path) = trial("No").await;
    trial.tell("fail", &["ArtifactInstall"]);
    let (code, text) = trial.verb(&["install", &path]);
    assert_eq!(code, 1);
    assert!(
        text.contains("Installation failed.") && text.contains("Rolled back."),
        "{text}"
    );
    assert_eq!(trial.name(), "unknown");

    trial.tell("fail", &["Download"]);
    let (code, text) = trial.verb(&["install", &path]);
    assert_eq!(code, 1);
    assert!(text.contains("System not modified."), "{text}");

    trial.answers("SupportsRollback", "No");
    trial.tell("fail", &["ArtifactInstall"]);
    let (code, text) = trial.verb(&["install", &path]);
    assert_eq!(code, 1);
    assert!(text.contains("inconsistent state"), "{text}");
    assert_eq!(trial.name(), "new_INCONSISTENT");
}

#[tokio::test]
async fn c4_stops_before_each_state_and_resumes() {
    for (state, calls_before) in [
        (
            "ArtifactInstall_Enter",
            "Download_Enter Download Download_Leave",
        ),
        ("ArtifactCommit_Enter", INSTALLED),
        (
            "ArtifactCommit_Leave",
            &*s(&[INSTALLED, "Commit_Enter Commit"]),
        ),
        (
            "Cleanup",
            &*s(&[INSTALLED, "Commit_Enter Commit Commit_Leave"]),
        ),
    ] {
        let (trial, path) = trial("No").await;
        trial.answers("SupportsRollback", "No");
        let (code, _) = trial.verb(&["install", "--stop-before", state, &path]);
        assert_eq!(code, 0, "{state}");
        assert_eq!(trial.trace(), calls_before, "{state}");
        let (code, _) = trial.verb(&["resume"]);
        assert_eq!(code, 0, "{state}");
        assert_eq!(trial.trace(), s(&[INSTALLED, COMMITTED]), "{state}");
        assert_eq!(trial.name(), "new");
    }
    for state in ["ArtifactRollback_Enter", "ArtifactFailure_Enter"] {
        let (trial, path) = trial("No").await;
        trial.tell("fail", &["ArtifactInstall"]);
        let (code, _) = trial.verb(&["install", "--stop-before", state, &path]);
        assert_eq!(code, 1, "{state}");
        let (_, text) = trial.verb(&["resume"]);
        assert!(!text.is_empty());
        let chain = s(&[
            "Download_Enter Download Download_Leave Install_Enter Install Install_Error",
            BACK,
        ]);
        assert_eq!(trial.trace(), chain, "{state}");
        assert_eq!(trial.name(), "unknown");
    }
    let (trial, path) = trial("No").await;
    assert_eq!(
        trial.verb(&["install", "--stop-before", "Lunch", &path]).0,
        1
    );
}

#[tokio::test]
async fn a_power_cut_in_a_standalone_installation() {
    let (trial, path) = trial("No").await;
    trial.tell("kill", &["ArtifactInstall"]);
    trial.verb(&["install", &path]);
    let (code, text) = trial.verb(&["resume"]);
    assert_eq!(code, 1);
    assert!(text.contains("Rolled back."), "{text}");
    assert_eq!(trial.name(), "unknown");

    trial.verb(&["install", &path]);
    trial.tell("kill", &["ArtifactCommit_Leave"]);
    trial.verb(&["commit"]);
    assert_eq!(trial.verb(&["rollback"]).0, 1, "too late");
    assert_eq!(trial.verb(&["resume"]).0, 0);
    assert_eq!(trial.name(), "new");
}

#[tokio::test]
async fn from_a_url() {
    let (trial, _) = trial("No").await;
    let url = format!("{}/artifact", trial.server.url);
    // The server answers on this thread while the verb runs.
    let mut command = trial.agent_command();
    command.args(["install", &url]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(trial.verb(&["commit"]).0, 0);
    assert_eq!(trial.name(), "new");
}

#[tokio::test]
async fn c6_the_daemon_leaves_an_uncommitted_update_alone() {
    let (mut trial, path) = trial("No").await;
    trial.verb(&["install", &path]);
    trial.start();
    trial.server.wait_for("/deployments/next", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    trial.kill();
    assert_eq!(trial.trace(), INSTALLED, "{}", trial.log());
    assert_eq!(trial.verb(&["commit"]).0, 0);
}
