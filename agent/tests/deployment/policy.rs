//! What has to hold before a commit, where something else than the default is wished (W17).

use crate::{
    COMMIT, DOWN, FAILURE, INSTALL, ROLLBACK, s,
    support::answer,
    trial::{Offer, Trial},
};

#[tokio::test]
async fn w17_a_commit_may_do_without_the_server() {
    let wish = "[commit]\nserver_contact = false";
    let mut trial = Trial::offering(&Offer::default(), "No", wish, |ordinal, _| {
        (ordinal == 2).then(|| answer(503, "{}"))
    })
    .await;
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        "new",
    );
}

#[tokio::test]
async fn w17_a_health_check_that_fails_or_hangs_is_a_reason_to_go_back() {
    for (check, reason) in [("exit 3", "code 3"), ("sleep 600", "time limit")] {
        let wish = format!(
            "[commit]\nhealth_check = [\"sh\", \"-c\", {check:?}]\nhealth_check_timeout_seconds = 1"
        );
        let mut trial = Trial::new("No", &wish).await;
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
        let log = trial.uploaded_log().unwrap().to_string();
        assert!(
            log.contains("health check") && log.contains(reason),
            "{reason}: {log}"
        );
    }
}
