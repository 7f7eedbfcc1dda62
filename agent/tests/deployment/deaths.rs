//! The agent dies by `kill -9` in a call (R rows), or its state is damaged.

use crate::{
    BACK, COMMIT, DOWN, FAILURE, INSTALL, REBOOT, ROLLBACK, s,
    trial::{Offer, Trial, wait_for},
    until_commit,
};

async fn killed_in(names: &[&str]) -> Trial {
    let mut trial = Trial::new("Yes", "").await;
    trial.tell("kill", names);
    trial.run().await;
    assert_eq!(trial.lives, 1 + names.len(), "{}", trial.log());
    trial
}

#[tokio::test]
async fn r1_in_the_installation() {
    let chain = s(&[DOWN, "Install_Enter Install", ROLLBACK, BACK, FAILURE]);
    killed_in(&["ArtifactInstall"]).await.check(
        &chain,
        "downloading installing failure",
        "unknown",
    );
    let chain = s(&[DOWN, "Install_Enter", ROLLBACK, BACK, FAILURE]);
    killed_in(&["ArtifactInstall_Enter"]).await.check(
        &chain,
        "downloading installing failure",
        "unknown",
    );
    let chain = s(&[DOWN, INSTALL, ROLLBACK, BACK, FAILURE]);
    killed_in(&["ArtifactInstall_Leave"]).await.check(
        &chain,
        "downloading installing failure",
        "unknown",
    );
    killed_in(&["NeedsArtifactReboot"]).await.check(
        &chain,
        "downloading installing failure",
        "unknown",
    );
}

#[tokio::test]
async fn r1_while_verifying() {
    let chain = s(&[
        DOWN,
        INSTALL,
        "Reboot_Enter Reboot VerifyReboot",
        ROLLBACK,
        BACK,
        FAILURE,
    ]);
    let statuses = "downloading installing rebooting failure";
    killed_in(&["ArtifactVerifyReboot"])
        .await
        .check(&chain, statuses, "unknown");
}

#[tokio::test]
async fn r1_on_the_way_back() {
    let statuses = "downloading installing failure";
    let opened = s(&[DOWN, "Install_Enter Install Install_Error"]);
    for (name, rest) in [
        (
            "ArtifactRollback",
            s(&["Rollback_Enter Rollback", ROLLBACK, BACK, FAILURE]),
        ),
        ("ArtifactRollbackReboot", s(&[ROLLBACK, BACK, FAILURE])),
        (
            "ArtifactVerifyRollbackReboot",
            s(&[
                ROLLBACK,
                "RollbackReboot_Enter RollbackReboot VerifyRollbackReboot",
                "VerifyRollbackReboot RollbackReboot_Leave",
                FAILURE,
            ]),
        ),
        (
            "ArtifactFailure",
            s(&[ROLLBACK, BACK, "Failure_Enter Failure", FAILURE]),
        ),
        ("Cleanup", s(&[ROLLBACK, BACK, FAILURE, "Cleanup"])),
    ] {
        let mut trial = Trial::new("Yes", "").await;
        trial.tell("fail", &["ArtifactInstall"]);
        trial.tell("kill", &[name]);
        trial.run().await;
        trial.check(&s(&[&opened, &rest]), statuses, "unknown");
        assert_eq!(trial.lives, 2);
    }
}

#[tokio::test]
async fn r2_in_the_reboot() {
    let statuses = "downloading installing rebooting installing success";
    killed_in(&["ArtifactReboot"]).await.check(
        &s(&[DOWN, INSTALL, REBOOT, COMMIT]),
        statuses,
        "new",
    );
    let chain = s(&[
        DOWN,
        INSTALL,
        "Reboot_Enter VerifyReboot Reboot_Leave",
        COMMIT,
    ]);
    killed_in(&["ArtifactReboot_Enter"])
        .await
        .check(&chain, statuses, "new");
}

#[tokio::test]
async fn r3_in_the_commit() {
    let chain = s(&[
        &until_commit(),
        "Commit_Enter Commit",
        ROLLBACK,
        BACK,
        FAILURE,
    ]);
    let statuses = "downloading installing rebooting installing failure";
    killed_in(&["ArtifactCommit"])
        .await
        .check(&chain, statuses, "unknown");
}

#[tokio::test]
async fn r4_after_the_commit() {
    let chain = s(&[
        &until_commit(),
        "Commit_Enter Commit Commit_Leave Commit_Leave Cleanup",
    ]);
    let statuses = "downloading installing rebooting installing success";
    killed_in(&["ArtifactCommit_Leave"])
        .await
        .check(&chain, statuses, "new");
}

#[tokio::test]
async fn r5_in_cleanup_after_the_commit() {
    let chain = s(&[&until_commit(), COMMIT, "Cleanup"]);
    let statuses = "downloading installing rebooting installing success";
    let trial = killed_in(&["Cleanup"]).await;
    trial.check(&chain, statuses, "new");
    assert!(!trial.tree().exists());
}

/// R6 of the reference: without anything that was kept, an interrupted download fails.
#[tokio::test]
async fn r6_in_the_download() {
    let mut trial = Trial::new("Yes", "[download]\nresume_after_restart = false").await;
    trial.tell("kill", &["Download"]);
    trial.run().await;
    trial.check(
        "Download_Enter Download Cleanup",
        "downloading failure",
        "unknown",
    );
    assert!(!trial.tree().exists());
}

#[tokio::test]
async fn r7_for_ever() {
    let mut trial = Trial::new("Yes", "").await;
    trial.tell("fail", &["ArtifactInstall"]);
    trial.tell("kill-always", &["ArtifactFailure"]);
    trial.run().await;
    assert_eq!(trial.statuses(), "downloading installing failure");
    assert_eq!(trial.name(), "new_INCONSISTENT");
    assert!((5..30).contains(&trial.lives), "{} lives", trial.lives);
}

#[tokio::test]
async fn r8_a_damaged_state_is_put_aside() {
    let mut trial = Trial::new("No", "").await;
    for copy in ["state.a", "state.b"] {
        trial
            .device
            .write(&format!("state/{copy}"), "junk junk junk junk junk junk");
    }
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        "new",
    );
    let names: Vec<_> = std::fs::read_dir(trial.device.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names.iter().any(|name| name.ends_with(".broken")),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_understood_is_rolled_back() {
    let mut trial = Trial::new("No", "").await;
    trial.tell("hang", &["ArtifactInstall"]);
    trial
        .until(|trial| trial.trace().ends_with("Install"))
        .await;
    trial.kill();
    let file = ambidex_platform::record::RecordFile::open(trial.device.path("state"), "state");
    let bytes = file.load().unwrap().bytes().unwrap().to_vec();
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    value["deployment"]["step"] = serde_json::json!("quantum_leap");
    value["deployment"]["undo"] = serde_json::json!(7);
    file.save(value.to_string().as_bytes()).unwrap();
    trial.run().await;
    let chain = s(&[DOWN, "Install_Enter Install", ROLLBACK, FAILURE]);
    trial.check(&chain, "downloading installing failure", "unknown");
}

#[tokio::test]
async fn g3_a_stop_in_the_download_loses_nothing() {
    let mut trial = Trial::new("No", "").await;
    trial.tell("hang", &["Download"]);
    trial
        .until(|trial| trial.trace().ends_with("Download"))
        .await;
    let code = trial.terminate();
    assert_eq!(code, Some(0), "{}", trial.log());
    assert_eq!(trial.statuses(), "downloading", "no result yet");
    trial.run().await;
    // Cleaned up, offered again, installed.
    let chain = s(&["Download_Enter Download Cleanup", DOWN, INSTALL, COMMIT]);
    trial.check(
        &chain,
        "downloading downloading installing installing success",
        "new",
    );
}

#[tokio::test]
async fn a_stop_while_waiting_for_the_server_goes_on_at_the_next_start() {
    let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let open = std::sync::Arc::clone(&gate);
    let mut trial = Trial::offering(
        &Offer::default(),
        "Yes",
        "retry_poll_count = 1000",
        move |ordinal, _| {
            let closed = !open.load(std::sync::atomic::Ordering::Relaxed);
            (ordinal >= 3 && closed).then(|| crate::support::answer(503, "{}"))
        },
    )
    .await;
    trial
        .until(|trial| trial.statuses().split(' ').count() >= 5)
        .await;
    assert_eq!(trial.terminate(), Some(0), "{}", trial.log());
    gate.store(true, std::sync::atomic::Ordering::Relaxed);
    trial.run().await;
    let chain = s(&[DOWN, INSTALL, REBOOT, "VerifyReboot Reboot_Leave", COMMIT]);
    assert_eq!(trial.trace(), chain, "{}", trial.log());
    assert_eq!(trial.name(), "new");
    assert!(trial.statuses().ends_with("installing success"));
}

#[tokio::test]
async fn g3_a_stop_when_idle() {
    let mut trial = Trial::new("No", "").await;
    trial.run().await;
    trial.start();
    let server = trial.server.requests_to("/deployments/next").len();
    wait_for("a poll", || {
        trial.server.requests_to("/deployments/next").len() > server
    })
    .await;
    assert_eq!(trial.terminate(), Some(0), "{}", trial.log());
}
