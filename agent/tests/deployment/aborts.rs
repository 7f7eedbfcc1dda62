//! S13: the deployment is aborted on the server, seen at each status report.

use crate::{
    BACK, COMMIT, DOWN, FAILURE, INSTALL, REBOOT, ROLLBACK, s,
    trial::{Offer, Trial, aborted},
};

async fn aborted_at(at: usize) -> Trial {
    let mut trial = Trial::offering(&Offer::default(), "Yes", "", move |ordinal, _| {
        (ordinal >= at).then(aborted)
    })
    .await;
    trial
        .until(|trial| {
            ["success", "failure"]
                .iter()
                .any(|end| trial.statuses().ends_with(end))
        })
        .await;
    trial
        .until(|trial| trial.store().deployment().is_none() && trial.store().reports().is_empty())
        .await;
    trial.kill();
    trial
}

#[tokio::test]
async fn s13_before_the_download() {
    aborted_at(0)
        .await
        .check("", "downloading failure", "unknown");
}

#[tokio::test]
async fn s13_before_the_installation() {
    aborted_at(1).await.check(
        &s(&[DOWN, "Cleanup"]),
        "downloading installing failure",
        "unknown",
    );
}

#[tokio::test]
async fn s13_before_the_reboot() {
    let chain = s(&[DOWN, INSTALL, ROLLBACK, BACK, FAILURE]);
    aborted_at(2).await.check(
        &chain,
        "downloading installing rebooting failure",
        "unknown",
    );
}

#[tokio::test]
async fn s13_before_the_commit() {
    let chain = s(&[DOWN, INSTALL, REBOOT, ROLLBACK, BACK, FAILURE]);
    aborted_at(3).await.check(
        &chain,
        "downloading installing rebooting installing failure",
        "unknown",
    );
}

#[tokio::test]
async fn an_abort_at_the_result_is_ignored() {
    let chain = s(&[DOWN, INSTALL, REBOOT, COMMIT]);
    aborted_at(4).await.check(
        &chain,
        "downloading installing rebooting installing success",
        "new",
    );
}
