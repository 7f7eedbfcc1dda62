//! W6: deployments that wait for somebody's consent, for the maintenance window, or to go on after a pause.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use crate::{
    BACK, COMMIT, DOWN, FAILURE, INSTALL, REBOOT, ROLLBACK, s,
    trial::{Offer, Trial, aborted, wait_for},
};

/// Until the last status is this one, `count` times in a row.
async fn held(trial: &mut Trial, status: &str, count: usize) {
    let expected = vec![status; count].join(" ");
    trial
        .until(|trial| {
            let statuses = trial.statuses();
            statuses.ends_with(&expected)
        })
        .await;
}

fn does(trial: &Trial, verb: &str) -> String {
    let (code, text) = trial.verb(&["deployment", verb]);
    assert_eq!(code, 0, "{verb}: {text}");
    text
}

/// Every gate holds, over the death of the agent, until somebody agrees.
#[tokio::test]
async fn consent_is_needed_at_every_gate() {
    let config = "[consent]\nbefore = [\"download\", \"install\", \"reboot\", \"commit\"]";
    let mut trial = Trial::new("Yes", config).await;
    for life in 1..=2 {
        trial
            .until(|trial| {
                trial.lives == life && trial.verb(&["deployment", "show"]).1.contains("download:")
            })
            .await;
        assert_eq!(
            (trial.trace().as_str(), trial.statuses().as_str()),
            ("", "")
        );
        assert!(trial.server.requests_to("/artifact").is_empty());
        if life == 1 {
            trial.kill();
        }
    }
    does(&trial, "continue");
    for (status, gate, trace) in [
        ("pause_before_installing", "install", s(&[DOWN])),
        ("pause_before_rebooting", "reboot", s(&[DOWN, INSTALL])),
        (
            "pause_before_committing",
            "commit",
            s(&[DOWN, INSTALL, REBOOT]),
        ),
    ] {
        held(&mut trial, status, 1).await;
        trial.kill();
        held(&mut trial, status, 2).await;
        let text = does(&trial, "show");
        assert!(
            text.contains(&format!("{gate}: it needs consent")),
            "{text}"
        );
        assert_eq!(trial.trace(), trace, "{}", trial.log());
        does(&trial, "continue");
    }
    trial.run().await;
    let pauses = |status: &str| format!("{status} {status}");
    let statuses = s(&[
        "downloading",
        &pauses("pause_before_installing"),
        "installing",
        &pauses("pause_before_rebooting"),
        "rebooting",
        &pauses("pause_before_committing"),
        "installing success",
    ]);
    trial.check(&s(&[DOWN, INSTALL, REBOOT, COMMIT]), &statuses, "new");
    assert_eq!(trial.lives, 5);
}

/// Consent that was given counts after a restart, and only for the deployment that it was given to.
#[tokio::test]
async fn consent_is_remembered_until_the_deployment_ends() {
    let mut trial = Trial::new("No", "[consent]\nbefore = [\"install\"]").await;
    held(&mut trial, "pause_before_installing", 1).await;
    trial.tell("hang", &["ArtifactInstall_Enter"]);
    does(&trial, "continue");
    trial
        .until(|trial| trial.trace().ends_with("Install_Enter"))
        .await;
    assert!(trial.device.holds("\"gates\":[\"install\"]"));
    trial.kill();
    trial.run().await;
    let chain = s(&[DOWN, "Install_Enter", ROLLBACK, FAILURE]);
    let statuses = "downloading pause_before_installing installing failure";
    trial.check(&chain, statuses, "unknown");
    trial.start();
    wait_for("the daemon", || trial.verb(&["deployment", "show"]).0 == 0).await;
    let text = does(&trial, "show");
    assert!(text.contains("none"), "{text}");
}

#[tokio::test]
async fn somebody_at_the_device_ends_it() {
    // before anything was done
    let mut trial = Trial::new("Yes", "[consent]\nbefore = [\"download\"]").await;
    trial
        .until(|trial| trial.verb(&["deployment", "show"]).1.contains("download:"))
        .await;
    does(&trial, "abort");
    trial.run().await;
    trial.check("", "failure", "unknown");

    // with a payload in place
    let mut trial = Trial::new("Yes", "[consent]\nbefore = [\"install\"]").await;
    held(&mut trial, "pause_before_installing", 1).await;
    does(&trial, "abort");
    trial.run().await;
    trial.check(
        &s(&[DOWN, "Cleanup"]),
        "downloading pause_before_installing failure",
        "unknown",
    );
    assert!(!trial.tree().exists());

    // on trial
    let mut trial = Trial::new("Yes", "[consent]\nbefore = [\"commit\"]").await;
    held(&mut trial, "pause_before_committing", 1).await;
    does(&trial, "abort");
    trial.run().await;
    let chain = s(&[DOWN, INSTALL, REBOOT, ROLLBACK, BACK, FAILURE]);
    let statuses = "downloading installing rebooting pause_before_committing failure";
    trial.check(&chain, statuses, "unknown");
    let log = trial.uploaded_log().unwrap().to_string();
    assert!(log.contains("aborted at the device"), "{log}");
}

/// A download ends at once.
#[tokio::test]
async fn somebody_at_the_device_ends_a_download() {
    let mut trial = Trial::new("No", "retry_download_count = 10000").await;
    trial.store_with(|_, body| crate::support::stall(200, &[], body, body.len() / 2));
    trial
        .until(|trial| !trial.server.requests_to("/artifact").is_empty())
        .await;
    does(&trial, "abort");
    trial.run().await;
    assert!(
        trial.trace().starts_with("Download_Enter"),
        "{}",
        trial.trace()
    );
    assert_eq!(trial.statuses(), "downloading failure");
}

#[tokio::test]
async fn the_server_ends_what_is_held() {
    let mut trial = Trial::offering(
        &Offer::default(),
        "No",
        "[consent]\nbefore = [\"install\"]",
        |ordinal, _| (ordinal >= 2).then(aborted),
    )
    .await;
    held(&mut trial, "pause_before_installing", 1).await;
    trial.kill();
    trial
        .until(|trial| trial.statuses().ends_with("failure"))
        .await;
    trial.check(
        &s(&[DOWN, "Cleanup"]),
        "downloading pause_before_installing pause_before_installing failure",
        "unknown",
    );
}

#[tokio::test]
async fn a_pause_holds_at_the_next_gate() {
    let mut trial = Trial::new("No", "").await;
    trial.does("Download", "while [ ! -e $LAB/go ]; do sleep 0.02; done");
    trial
        .until(|trial| trial.trace().ends_with("Download"))
        .await;
    assert!(does(&trial, "pause").contains("paused          yes"));
    std::fs::write(trial.device.path("lab/go"), "").unwrap();
    held(&mut trial, "pause_before_installing", 1).await;
    // a pause is not forgotten either
    trial.kill();
    held(&mut trial, "pause_before_installing", 2).await;
    does(&trial, "continue");
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading pause_before_installing pause_before_installing installing installing success",
        "new",
    );
}

#[tokio::test]
async fn a_wish_about_nothing_is_told_so() {
    let mut trial = Trial::new("No", "").await;
    assert_eq!(trial.verb(&["deployment", "show"]).0, 1, "no daemon");
    trial.run().await;
    trial.start();
    wait_for("the daemon", || trial.verb(&["deployment", "show"]).0 == 0).await;
    assert_eq!(trial.verb(&["deployment", "continue"]).0, 2);
    assert_eq!(trial.verb(&["deployment", "abort"]).0, 2);
    assert_eq!(trial.terminate(), Some(0), "{}", trial.log());
}

/// A window that is closed now and for a day at least.
fn closed_window(phases: &str) -> String {
    let later = Timestamp::now().to_zoned(TimeZone::UTC) + 3.days();
    let day = later.strftime("%a");
    format!(
        "[maintenance_window]\ntimes = [\"{day} 00:00-23:00\"]\ntime_zone = \"UTC\"\n\
         needs_synchronised_clock = false\nphases = {phases}"
    )
}

#[tokio::test]
async fn outside_the_window_nothing_begins() {
    let mut trial = Trial::new("No", &closed_window("[\"download\"]")).await;
    trial
        .until(|trial| {
            let text = trial.verb(&["deployment", "show"]).1;
            text.contains("download: outside the maintenance window")
        })
        .await;
    assert_eq!(trial.statuses(), "");
    assert!(trial.server.requests_to("/artifact").is_empty());
    // somebody who is there knows better
    does(&trial, "continue");
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        "new",
    );

    let mut trial = Trial::new("No", &closed_window("[\"install\", \"reboot\"]")).await;
    held(&mut trial, "pause_before_installing", 1).await;
    assert_eq!(trial.trace(), DOWN);
    does(&trial, "continue");
    trial.run().await;
    assert_eq!(trial.name(), "new");
}

#[tokio::test]
async fn inside_the_window_nothing_is_held() {
    let config =
        "[maintenance_window]\ntimes = [\"00:00-24:00\"]\nneeds_synchronised_clock = false";
    let mut trial = Trial::new("No", config).await;
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        "new",
    );
}

/// W17: the server may be away, when the configuration says so; the health check then decides.
#[tokio::test]
async fn a_health_check_decides_without_the_server() {
    for (healthy, name) in [(true, "new"), (false, "unknown")] {
        let config = "retry_poll_count = 1000\n[commit]\nserver_contact = false\n\
                      health_check_timeout_seconds = 5\nhealth_check = [\"HEALTH\"]";
        let mut trial = Trial::new("No", "").await;
        let health = trial.device.path("lab/health");
        let conf = std::fs::read_to_string(trial.device.path("conf/agent.toml")).unwrap();
        let config = config.replace("HEALTH", &health.display().to_string());
        trial
            .device
            .write("conf/agent.toml", &format!("{conf}\n{config}\n"));
        let code = i32::from(!healthy);
        trial.device.script("lab/health", &format!("exit {code}"));
        let offline = std::sync::Arc::clone(&trial.offline);
        trial.does(
            "ArtifactInstall_Leave",
            "while [ ! -e $LAB/go ]; do sleep 0.02; done",
        );
        trial
            .until(|trial| trial.trace().ends_with("Install_Leave"))
            .await;
        offline.store(true, std::sync::atomic::Ordering::Relaxed);
        std::fs::write(trial.device.path("lab/go"), "").unwrap();
        trial
            .until(|trial| trial.name() == name || !trial.store().reports().is_empty())
            .await;
        assert_eq!(trial.name(), name, "{}", trial.log());
        offline.store(false, std::sync::atomic::Ordering::Relaxed);
        trial.run().await;
        let end = if healthy { "success" } else { "failure" };
        assert!(trial.statuses().ends_with(end), "{}", trial.statuses());
    }
}

/// W17: a health check that hangs ends with everything that it has started.
#[tokio::test]
async fn a_health_check_that_hangs_is_ended() {
    let mut trial = Trial::new("No", "").await;
    let conf = std::fs::read_to_string(trial.device.path("conf/agent.toml")).unwrap();
    let health = trial.device.path("lab/health").display().to_string();
    let config = format!(
        "[commit]\nhealth_check_timeout_seconds = 0.5\nhealth_check = [{health:?}, \"--all\"]"
    );
    trial
        .device
        .write("conf/agent.toml", &format!("{conf}\n{config}\n"));
    let child = trial.device.path("lab/child").display().to_string();
    trial.device.script(
        "lab/health",
        &format!("sleep 600 & echo $! > {child}; wait"),
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
    let pid = std::fs::read_to_string(&child).unwrap();
    let gone = || !std::path::Path::new("/proc").join(pid.trim()).exists();
    wait_for("the end of what the health check had started", gone).await;
}

/// P8 over the socket: a check for a deployment and the inventory.
#[tokio::test]
async fn triggers_come_over_the_socket_too() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut trial = Trial::new("No", "").await;
    trial.run().await;
    trial.start();
    let path = trial.device.path("state/daemon/control.sock");
    wait_for("the socket", || {
        std::os::unix::net::UnixStream::connect(&path).is_ok()
    })
    .await;
    let polls = || trial.server.requests_to("/deployments/next").len();
    wait_for("the first poll", || polls() > 1).await;
    let before = polls();
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for (request, expected) in [
        ("{\"command\":\"check-update\"}", "{\"ok\":true,"),
        ("{\"command\":\"send-inventory\"}", "{\"ok\":true,"),
        (
            "{\"command\":\"dance\"}",
            "{\"ok\":false,\"error\":\"the request is not understood",
        ),
        ("junk", "{\"ok\":false,"),
    ] {
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.starts_with(expected), "{answer}");
    }
    wait_for("another poll", || polls() > before).await;
}

/// A device that waits for somebody, for days maybe, still tells how it is.
#[tokio::test]
async fn the_inventory_goes_on_while_a_deployment_is_held() {
    let mut trial = Trial::new("No", "[consent]\nbefore = [\"install\"]").await;
    let config = std::fs::read_to_string(trial.device.path("conf/agent.toml")).unwrap();
    let often = config.replace(
        "inventory_poll_interval_seconds = 600",
        "inventory_poll_interval_seconds = 0.1",
    );
    trial.device.write("conf/agent.toml", &often);
    let count = trial.device.path("lab/count");
    trial.device.script(
        "data/inventory/mender-inventory-count",
        &format!("echo >> {0}; echo count=$(wc -l < {0})", count.display()),
    );
    for life in 1..=2 {
        held(&mut trial, "pause_before_installing", life).await;
        let before = trial.server.requests_to("/attributes").len();
        trial.server.wait_for("/attributes", before + 2).await;
        trial.kill();
    }
    trial.start();
    held(&mut trial, "pause_before_installing", 3).await;
    does(&trial, "continue");
    trial.run().await;
    assert_eq!(
        trial.trace(),
        s(&[DOWN, INSTALL, COMMIT]),
        "{}",
        trial.log()
    );
}
