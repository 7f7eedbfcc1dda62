//! One step fails.

use crate::{BACK, DOWN, FAILURE, INSTALL, REBOOT, ROLLBACK, s, trial::Trial, until_commit};

async fn rebooting(fail: &[&str]) -> Trial {
    let mut trial = Trial::new("Yes", "").await;
    trial.tell("fail", fail);
    trial.run().await;
    trial
}

#[tokio::test]
async fn s5_while_downloading() {
    let trial = rebooting(&["Download"]).await;
    trial.check(
        "Download_Enter Download Download_Error Cleanup",
        "downloading failure",
        "unknown",
    );
    assert!(!trial.tree().exists());
    let trial = rebooting(&["Download_Enter"]).await;
    trial.check(
        "Download_Enter Download_Error",
        "downloading failure",
        "unknown",
    );
    let trial = rebooting(&["Download_Leave"]).await;
    trial.check(
        "Download_Enter Download Download_Leave Download_Error Cleanup",
        "downloading failure",
        "unknown",
    );
}

#[tokio::test]
async fn s6_while_installing() {
    for (name, calls) in [
        ("ArtifactInstall", "Install_Enter Install Install_Error"),
        ("ArtifactInstall_Enter", "Install_Enter Install_Error"),
        (
            "ArtifactInstall_Leave",
            "Install_Enter Install Install_Leave Install_Error",
        ),
    ] {
        let trial = rebooting(&[name]).await;
        let chain = s(&[DOWN, calls, ROLLBACK, BACK, FAILURE]);
        trial.check(&chain, "downloading installing failure", "unknown");
    }
}

#[tokio::test]
async fn s7_without_rollback() {
    let mut trial = Trial::new("Yes", "").await;
    trial.answers("SupportsRollback", "No");
    trial.tell("fail", &["ArtifactInstall"]);
    trial.run().await;
    let chain = s(&[DOWN, "Install_Enter Install Install_Error", FAILURE]);
    trial.check(&chain, "downloading installing failure", "new_INCONSISTENT");
}

#[tokio::test]
async fn s8_the_verification_of_the_reboot() {
    let trial = rebooting(&["ArtifactVerifyReboot"]).await;
    let chain = s(&[
        DOWN,
        INSTALL,
        "Reboot_Enter Reboot VerifyReboot Reboot_Error",
        ROLLBACK,
        BACK,
        FAILURE,
    ]);
    trial.check(
        &chain,
        "downloading installing rebooting failure",
        "unknown",
    );
    let log = trial.uploaded_log().unwrap().to_string();
    assert!(
        log.contains("told to fail"),
        "the module's words are in the log: {log}"
    );
}

#[tokio::test]
async fn s9_a_rollback_reboot_that_never_works_ends() {
    let mut trial = Trial::new("Yes", "").await;
    trial.tell("fail", &["ArtifactVerifyReboot"]);
    trial.tell("fail-always", &["ArtifactVerifyRollbackReboot"]);
    trial.run().await;
    assert_eq!(trial.statuses(), "downloading installing rebooting failure");
    assert_eq!(trial.name(), "new_INCONSISTENT");
    assert!(trial.trace().matches("VerifyRollbackReboot").count() > 3);
}

#[tokio::test]
async fn s10_the_commit() {
    let trial = rebooting(&["ArtifactCommit"]).await;
    let chain = s(&[
        &until_commit(),
        "Commit_Enter Commit Commit_Error",
        ROLLBACK,
        BACK,
        FAILURE,
    ]);
    trial.check(
        &chain,
        "downloading installing rebooting installing failure",
        "unknown",
    );
}

#[tokio::test]
async fn s11_after_the_commit() {
    let trial = rebooting(&["ArtifactCommit_Leave"]).await;
    let chain = s(&[
        &until_commit(),
        "Commit_Enter Commit Commit_Leave Commit_Error Cleanup",
    ]);
    trial.check(
        &chain,
        "downloading installing rebooting installing failure",
        "new_INCONSISTENT",
    );
    assert_eq!(
        trial.store().provides()["rootfs-image.mod.version"],
        "2",
        "the new software is what runs"
    );
}

#[tokio::test]
async fn s12_the_failure_call_and_cleanup() {
    let opener = s(&[
        DOWN,
        INSTALL,
        "Reboot_Enter Reboot VerifyReboot Reboot_Error",
    ]);
    let chain = s(&[&opener, ROLLBACK, BACK, FAILURE]);
    let trial = rebooting(&["ArtifactVerifyReboot", "ArtifactFailure"]).await;
    trial.check(
        &chain,
        "downloading installing rebooting failure",
        "new_INCONSISTENT",
    );
    let trial = rebooting(&["ArtifactVerifyReboot", "Cleanup"]).await;
    trial.check(
        &chain,
        "downloading installing rebooting failure",
        "unknown",
    );
    assert!(!trial.tree().exists());
}

#[tokio::test]
async fn s14_no_answer_to_the_report_before_the_commit() {
    let mut trial = Trial::offering(
        &crate::trial::Offer::default(),
        "Yes",
        "retry_poll_count = 3",
        |ordinal, _| {
            (3..7)
                .contains(&ordinal)
                .then(|| crate::support::answer(500, "{}"))
        },
    )
    .await;
    trial.run().await;
    let chain = s(&[DOWN, INSTALL, REBOOT, ROLLBACK, BACK, FAILURE]);
    let statuses =
        "downloading installing rebooting installing installing installing installing failure";
    trial.check(&chain, statuses, "unknown");
}

#[tokio::test]
async fn questions_with_nonsense_answers() {
    let mut trial = Trial::new("perhaps", "").await;
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, ROLLBACK, FAILURE]),
        "downloading installing failure",
        "new_INCONSISTENT",
    );
    let mut trial = Trial::new("Yes", "").await;
    trial.answers("SupportsRollback", "Yes\nNo");
    trial.tell("fail", &["ArtifactInstall"]);
    trial.run().await;
    let chain = s(&[DOWN, "Install_Enter Install Install_Error", FAILURE]);
    trial.check(&chain, "downloading installing failure", "new_INCONSISTENT");
}

#[tokio::test]
async fn m8_without_a_module() {
    let offer = crate::trial::Offer {
        payload: ambidex_artifact::Payload::Module("foo".into()),
        ..crate::trial::Offer::default()
    };
    let mut trial = Trial::offering(&offer, "Yes", "", |_, _| None).await;
    trial.run().await;
    trial.check(
        "Download_Enter Download_Error",
        "downloading failure",
        "unknown",
    );
    assert!(
        trial
            .uploaded_log()
            .unwrap()
            .to_string()
            .contains("no update module")
    );
}

#[tokio::test]
async fn f1_for_another_device_type() {
    let offer = crate::trial::Offer {
        device_type: "toaster",
        ..crate::trial::Offer::default()
    };
    let mut trial = Trial::offering(&offer, "Yes", "", |_, _| None).await;
    trial.run().await;
    trial.check(
        "Download_Enter Download_Error",
        "downloading failure",
        "unknown",
    );
    assert!(
        trial
            .uploaded_log()
            .unwrap()
            .to_string()
            .contains("toaster")
    );
}
