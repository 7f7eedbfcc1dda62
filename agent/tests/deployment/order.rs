//! Whole deployments looked at closely: every call with the questions, every request with its headers, and what
//! falls due in between.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    COMMIT, DOWN, INSTALL, s,
    support::TOKEN,
    trial::{Trial, wait_for},
};

/// Recording scripts of the states Idle and Sync.
fn record_visits(trial: &Trial) {
    let trace = trial.device.path("lab/trace");
    for name in [
        "Idle_Enter",
        "Idle_Leave",
        "Sync_Enter",
        "Sync_Leave",
        "Sync_Error",
    ] {
        let body = format!("echo {name} >> {}", trace.display());
        trial
            .device
            .script(&format!("conf/scripts/{name}_00"), &body);
    }
}

/// Every call in full, up to the idleness after the deployment.
async fn whole_trace(trial: &mut Trial) -> String {
    record_visits(trial);
    let file = trial.device.path("lab/trace");
    let read = move || std::fs::read_to_string(&file).unwrap_or_default();
    let ended = read.clone();
    trial
        .until(|_| ended().matches("Idle_Enter").count() >= 2)
        .await;
    trial.kill();
    let text = read();
    // what the next visit has begun is none of this deployment
    let second = text.match_indices("Idle_Enter").nth(1).unwrap().0 + "Idle_Enter".len();
    text[..second].lines().collect::<Vec<_>>().join(" ")
}

const UNTIL_INSTALLED: &str = "Idle_Enter Idle_Leave Sync_Enter Sync_Leave \
    Download_Enter ProvidePayloadFileSizes Download Download_Leave";

#[tokio::test]
async fn s4_every_call_of_a_success_in_order() {
    let mut trial = Trial::new("Yes", "").await;
    let expected = s(&[
        UNTIL_INSTALLED,
        "ArtifactInstall_Enter ArtifactInstall ArtifactInstall_Leave NeedsArtifactReboot",
        "ArtifactReboot_Enter ArtifactReboot ArtifactVerifyReboot ArtifactReboot_Leave",
        "ArtifactCommit_Enter ArtifactCommit ArtifactCommit_Leave Cleanup Idle_Enter",
    ]);
    assert_eq!(whole_trace(&mut trial).await, expected, "{}", trial.log());
}

#[tokio::test]
async fn s4_s6_every_call_of_a_rollback_in_order_and_nothing_else_has_changed() {
    let mut trial = Trial::new("Yes", "").await;
    let facts = ambidex_machine::Facts {
        artifact_name: "old".into(),
        provides: Some(BTreeMap::from([(
            "rootfs-image.mod.version".into(),
            "1".into(),
        )])),
        ..ambidex_machine::Facts::default()
    };
    trial.store().initialise(Some(&facts)).unwrap();
    let before = trial.verb(&["show-provides"]).1;
    assert!(before.contains("rootfs-image.mod.version=1"), "{before}");
    trial.tell("fail", &["ArtifactInstall"]);
    let expected = s(&[
        UNTIL_INSTALLED,
        "ArtifactInstall_Enter ArtifactInstall ArtifactInstall_Error SupportsRollback",
        "ArtifactRollback_Enter ArtifactRollback ArtifactRollback_Leave NeedsArtifactReboot",
        "ArtifactRollbackReboot_Enter ArtifactRollbackReboot ArtifactVerifyRollbackReboot",
        "ArtifactRollbackReboot_Leave ArtifactFailure_Enter ArtifactFailure ArtifactFailure_Leave",
        "Cleanup Idle_Enter",
    ]);
    assert_eq!(whole_trace(&mut trial).await, expected, "{}", trial.log());
    assert_eq!(trial.verb(&["show-provides"]).1, before);
    assert_eq!(trial.verb(&["show-artifact"]).1.trim(), "old");
}

#[tokio::test]
async fn p9_every_request_says_who_asks_and_only_the_api_learns_the_token() {
    let mut trial = Trial::new("No", "").await;
    trial.tell("fail", &["ArtifactInstall"]);
    trial.run().await;
    let requests = trial.server.requests();
    for part in ["/artifact", "/status", "/log", "/attributes", "/next"] {
        assert!(
            requests
                .iter()
                .any(|request| request.target.ends_with(part))
        );
    }
    let bearer = format!("Bearer {TOKEN}");
    for request in &requests {
        let agent = request.header("user-agent").unwrap_or_default();
        assert!(agent.starts_with("Ambidex/"), "{request:?}");
        let expected = match request.target.as_str() {
            "/artifact" => None,
            target if target.ends_with("/auth_requests") => Some("API_KEY"),
            _ => Some(bearer.as_str()),
        };
        assert_eq!(request.header("authorization"), expected, "{request:?}");
    }
}

#[tokio::test]
async fn p2_what_falls_due_in_a_deployment_comes_after_it() {
    let mut trial = Trial::new("No", "").await;
    let config = std::fs::read_to_string(trial.device.path("conf/agent.toml")).unwrap();
    let often = config
        .replace(
            "update_poll_interval_seconds = 600",
            "update_poll_interval_seconds = 0.2",
        )
        .replace(
            "inventory_poll_interval_seconds = 600",
            "inventory_poll_interval_seconds = 0.2",
        );
    trial.device.write("conf/agent.toml", &often);
    trial
        .device
        .script("data/inventory/mender-inventory-t", "date +time=%s.%N");
    trial.does(
        "ArtifactInstall",
        "while [ ! -e $LAB/go ]; do sleep 0.02; done",
    );
    trial
        .until(|trial| trial.trace().ends_with("Install"))
        .await;
    let asked =
        |trial: &Trial| ["/next", "/attributes"].map(|part| trial.server.requests_to(part).len());
    let before = asked(&trial);
    for verb in ["check-update", "send-inventory"] {
        assert_eq!(trial.verb(&[verb]).0, 0, "{verb}");
    }
    // not a wait for something that happens: five intervals in which nothing must
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked(&trial), before, "{}", trial.log());
    std::fs::write(trial.device.path("lab/go"), "").unwrap();
    trial
        .until(|trial| {
            asked(trial)
                .iter()
                .zip(before)
                .all(|(now, then)| *now > then)
        })
        .await;
    trial.kill();
    let chain = s(&[DOWN, INSTALL, COMMIT]);
    assert_eq!(trial.trace(), chain, "{}", trial.log());
    assert_eq!(
        trial.statuses(),
        "downloading installing installing success"
    );
}

#[tokio::test]
async fn m7_the_reboot_program_is_found_in_the_path() {
    let mut trial = Trial::new("Automatic", "").await;
    trial.run().await;
    let chain = s(&[
        DOWN,
        INSTALL,
        "Reboot_Enter reboot VerifyReboot Reboot_Leave",
        COMMIT,
    ]);
    trial.check(
        &chain,
        "downloading installing rebooting installing success",
        "new",
    );
    assert_eq!(trial.lives, 2);
}

#[tokio::test]
async fn c6_a_verb_is_refused_while_the_daemon_installs() {
    let mut trial = Trial::new("No", "").await;
    let path = artifact(&trial);
    trial.does(
        "ArtifactInstall",
        "while [ ! -e $LAB/go ]; do sleep 0.02; done",
    );
    trial
        .until(|trial| trial.trace().ends_with("Install"))
        .await;
    for words in [
        &["install", path.as_str()][..],
        &["rollback"],
        &["commit"],
        &["resume"],
    ] {
        let output = trial.agent_command().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("locked by process"), "{words:?}: {said}");
    }
    std::fs::write(trial.device.path("lab/go"), "").unwrap();
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        "new",
    );
    assert_eq!(trial.lives, 1);
}

#[tokio::test]
async fn c6_the_daemon_waits_while_a_verb_installs() {
    let mut trial = Trial::new("No", "").await;
    let path = artifact(&trial);
    trial.does(
        "ArtifactInstall",
        "while [ ! -e $LAB/go ]; do sleep 0.02; done",
    );
    let mut command = trial.agent_command();
    let mut install = command.args(["install", &path]).spawn().unwrap();
    wait_for("the installation", || trial.trace().ends_with("Install")).await;
    trial.start();
    wait_for("the daemon's complaint", || {
        trial.log().contains("is locked by")
    })
    .await;
    assert!(trial.server.requests_to("/next").is_empty());
    std::fs::write(trial.device.path("lab/go"), "").unwrap();
    assert!(install.wait().unwrap().success());
    // now it asks, and leaves alone what is not committed
    wait_for("the daemon's turn", || trial.log().contains("has to wait")).await;
    assert!(trial.is_alive());
    trial.kill();
    assert_eq!(trial.trace(), s(&[DOWN, INSTALL]), "{}", trial.log());
    assert_eq!(trial.verb(&["commit"]).0, 0);
    assert_eq!(trial.trace(), s(&[DOWN, INSTALL, COMMIT]));
    assert_eq!(trial.name(), "new");
}

/// A file with the artifact that the server offers.
fn artifact(trial: &Trial) -> String {
    let path = trial.device.path("new.mender");
    let lab = trial.device.path("lab").display().to_string();
    std::fs::write(&path, crate::trial::Offer::default().artifact(&lab)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn c2_without_a_reboot_the_exit_code_is_plain() {
    for (reboot, words, code) in [
        ("No", &["install", "--reboot-exit-code"][..], 0),
        ("Automatic", &["install", "--reboot-exit-code"], 4),
        ("Automatic", &["install"], 0),
    ] {
        let trial = Trial::new(reboot, "").await;
        let path = artifact(&trial);
        let found = trial.verb(&[words, &[path.as_str()]].concat()).0;
        assert_eq!(found, code, "{reboot} {words:?}");
        assert!(!trial.trace().contains("reboot"), "{}", trial.trace());
    }
}
