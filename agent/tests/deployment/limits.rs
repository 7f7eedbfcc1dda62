//! Time limits, retries and sizes.

use crate::{
    COMMIT, DOWN, FAILURE, INSTALL, ROLLBACK, s,
    trial::{Offer, Trial},
};

#[tokio::test]
async fn t1_a_script_that_asks_for_more_time_gets_it() {
    let mut trial = Trial::new(
        "No",
        "state_script_retry_interval_seconds = 0.05\nstate_script_retry_timeout_seconds = 20",
    )
    .await;
    trial.does(
        "ArtifactInstall_Enter",
        "test -e $LAB/waited && return; touch $LAB/waited; exit 21",
    );
    trial.run().await;
    let chain = s(&[DOWN, "Install_Enter", INSTALL, COMMIT]);
    trial.check(&chain, "downloading installing installing success", "new");
}

#[tokio::test]
async fn t1_but_not_for_ever() {
    let mut trial = Trial::new(
        "No",
        "state_script_retry_interval_seconds = 0.05\nstate_script_retry_timeout_seconds = 0.3",
    )
    .await;
    trial.does("ArtifactCommit_Enter", "exit 21");
    trial.run().await;
    assert!(
        trial
            .trace()
            .ends_with(&s(&["Commit_Enter Commit_Error", ROLLBACK, FAILURE])),
        "{}",
        trial.trace()
    );
    assert_eq!(trial.name(), "unknown");
}

#[tokio::test]
async fn m9_a_module_that_hangs_is_ended() {
    let mut trial = Trial::new("No", "module_timeout_seconds = 1").await;
    trial.tell("hang", &["ArtifactInstall"]);
    trial.run().await;
    let chain = s(&[
        DOWN,
        "Install_Enter Install Install_Error",
        ROLLBACK,
        FAILURE,
    ]);
    trial.check(&chain, "downloading installing failure", "unknown");
}

#[tokio::test]
async fn t4_a_format_of_scripts_that_is_not_known_stops_the_commit() {
    let mut trial = Trial::new("No", "").await;
    trial.does(
        "ArtifactInstall",
        &format!(
            "echo 9 > {}",
            trial.device.path("conf/scripts/version").display()
        ),
    );
    trial.run().await;
    let chain = s(&[
        DOWN,
        INSTALL,
        "Commit_Enter Commit_Error",
        ROLLBACK,
        FAILURE,
    ]);
    trial.check(
        &chain,
        "downloading installing installing failure",
        "unknown",
    );
}

#[tokio::test]
async fn t5_scripts_of_an_earlier_deployment_are_gone() {
    let mut trial = Trial::new("No", "").await;
    std::fs::create_dir_all(trial.device.path("state/scripts")).unwrap();
    trial
        .device
        .script("state/scripts/ArtifactInstall_Enter_99", "exit 1");
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        "new",
    );
}

#[tokio::test]
async fn t6_sync_and_idle_scripts() {
    let mut trial = Trial::new("No", "").await;
    let trace = trial.device.path("lab/trace");
    for name in [
        "Idle_Enter_00",
        "Idle_Leave_00",
        "Sync_Enter_00",
        "Sync_Leave_00",
        "Sync_Error_00",
    ] {
        let once = trial.device.path("lab/fail").join(name);
        let body = format!(
            "echo {name} >> {}\nif [ -e {1} ]; then rm {1}; exit 1; fi",
            trace.display(),
            once.display()
        );
        trial.device.script(&format!("conf/scripts/{name}"), &body);
    }
    trial.tell("fail", &["Idle_Leave_00", "Sync_Leave_00"]);
    trial.run().await;
    let trace = trial.trace();
    let (visits, deployment) = trace.split_once(" Download_Enter").unwrap();
    let failed = "Idle_Enter_00 Idle_Leave_00 Sync_Enter_00 Sync_Leave_00 Sync_Error_00";
    let good = "Idle_Enter_00 Idle_Leave_00 Sync_Enter_00 Sync_Leave_00";
    assert!(
        visits.starts_with(&s(&[failed, good])) && visits.ends_with(good),
        "{visits}"
    );
    assert!(!visits[failed.len()..].contains("Sync_Error"), "{visits}");
    assert!(
        format!("Download_Enter{deployment}").starts_with(&s(&[DOWN, INSTALL, COMMIT])),
        "{deployment}"
    );
    assert_eq!(
        trial.statuses(),
        "downloading installing installing success",
        "no status for the failed visit"
    );
}

#[tokio::test]
async fn s17_the_log_stays_below_the_servers_limit_and_valid() {
    let mut trial = Trial::new("No", "").await;
    trial.does(
        "ArtifactInstall",
        "head -c 5000000 /dev/zero | tr '\\0' x | fold -w 200; head -c 100000 /dev/urandom; exit 1",
    );
    trial.run().await;
    let log = trial.uploaded_log().unwrap();
    let text = log.to_string();
    assert!(text.len() < 1024 * 1024, "{} bytes", text.len());
    let messages = log["messages"].as_array().unwrap();
    assert!(messages.len() > 10);
    assert!(
        messages.iter().all(|m| m["timestamp"].is_string()
            && m["level"].is_string()
            && m["message"].is_string())
    );
    assert!(
        text.contains("ArtifactInstall"),
        "the reason is among what is kept"
    );
}

#[tokio::test]
async fn r9_a_state_directory_that_cannot_be_written() {
    let mut trial = Trial::offering(
        &Offer::default(),
        "No",
        "update_log_path = \"/nonexistent\"",
        |_, _| None,
    )
    .await;
    // One start to make key and name, then the directory refuses (as root: a directory in the record's place does).
    trial.tell("hang", &["Download_Enter"]);
    trial
        .until(|trial| trial.trace().ends_with("Download_Enter"))
        .await;
    trial.kill();
    for copy in ["state.a", "state.b", "state.tmp"] {
        let path = trial.device.path("state").join(copy);
        let _ = std::fs::remove_file(&path);
    }
    std::fs::create_dir_all(trial.device.path("state/state.tmp/full")).unwrap();
    std::fs::remove_file(trial.device.path("lab/trace")).unwrap();
    trial
        .until(|trial| trial.statuses().ends_with("failure"))
        .await;
    trial.kill();
    assert_eq!(trial.trace(), "Download_Error", "{}", trial.log());
}

/// The server's last word on the deployment: the reason that it was told.
fn told_reason(trial: &Trial) -> String {
    let reports = trial.server.requests_to("/status");
    let body = reports.last().unwrap().json();
    body["substate"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn w1_a_deployment_that_takes_too_long_fails_with_that_reason() {
    let mut trial = Trial::new("No", "deployment_timeout_seconds = 3").await;
    trial.tell("hang", &["ArtifactInstall"]);
    trial.run().await;
    let reason = told_reason(&trial);
    assert!(reason.contains("deployment_timeout_seconds"), "{reason}");
    assert!(trial.statuses().ends_with("failure"), "{}", trial.log());
    assert_eq!(trial.name(), "unknown");
    assert_eq!(trial.lives, 1, "the agent lives on");
    assert!(!trial.is_something_running(), "the module was ended");
}

/// W8: a deployment that the device's own scripts never let begin is told as failed, with the script's name.
#[tokio::test]
async fn w8_a_deployment_that_sync_scripts_keep_back_ends_with_their_reason() {
    let mut trial = Trial::new("No", "retry_poll_count = 3").await;
    let visits = trial.device.path("lab/visits");
    let body = format!("echo visit >> {}; exit 1", visits.display());
    trial
        .device
        .script("conf/scripts/Sync_Leave_00_never", &body);
    trial.run().await;
    let reason = told_reason(&trial);
    assert!(reason.contains("Sync_Leave_00_never"), "{reason}");
    trial.check("", "failure", "unknown");
    let visits = std::fs::read_to_string(visits).unwrap();
    assert!(visits.lines().count() >= 4, "three more chances: {visits}");
}
