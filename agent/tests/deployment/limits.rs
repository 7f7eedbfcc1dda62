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
