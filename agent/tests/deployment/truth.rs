//! W7: a device in doubt asks its running slot, says so, and takes the next deployment.

use std::time::Duration;

use ambidex_machine::{Adoption, Facts, Pair};

use crate::slots::{Ailment, Board, NEW, OLD};

const MARKED: &str = "new_INCONSISTENT";

/// The reason of the last result that the server was told.
fn told_reason(board: &Board) -> String {
    let reports = board.trial.server.requests_to("/status");
    let body = reports.last().unwrap().json();
    body["substate"].as_str().unwrap_or_default().to_owned()
}

/// The deployment again, without what made it fail.
async fn next_deployment_succeeds(board: &mut Board) {
    board.trial.offer_again();
    board.finish().await;
    board.judge().await;
    assert!(board.runs_new(), "{}", board.told());
    assert_eq!(board.trial.name(), "new", "{}", board.told());
}

/// A script on the way back fails, the way back itself does not: the previous software runs, and the name says so.
#[tokio::test]
async fn a_fault_on_the_way_back_does_not_mark_what_the_slot_proves() {
    let mut board = Board::new(Ailment::None).await;
    board
        .trial
        .tell("fail", &["ArtifactCommit_Enter", "ArtifactRollback_Enter"]);
    board.finish().await;
    board.judge().await;
    assert_eq!(board.booted, OLD, "{}", board.told());
    let reason = told_reason(&board);
    assert!(
        reason.contains("ArtifactCommit_Enter")
            && reason.ends_with("the previous software runs (slot 2)"),
        "{reason}"
    );
    next_deployment_succeeds(&mut board).await;
}

/// The boot loader's variables cannot be read while the update is to be taken back: only the next boot goes back.
#[tokio::test]
async fn a_way_back_that_failed_is_settled_by_the_next_boot() {
    let mut board = Board::new(Ailment::None).await;
    let env = board.env.env_dir.display().to_string();
    board.trial.does(
        "ArtifactCommit_Enter",
        &format!("mv {env} {env}.away; exit 1"),
    );
    while !board.live(Duration::from_secs(60)).await {}
    assert_eq!((board.booted, board.trial.name().as_str()), (NEW, MARKED));
    assert!(board.trial.store().doubt().is_some());

    // the agent alone is started again: nothing can be proven
    board.trial.start();
    crate::trial::wait_for("the agent's word", || {
        board.trial.log().contains("cannot be found out")
    })
    .await;
    board.trial.kill();
    assert_eq!(board.trial.name(), MARKED);

    std::fs::rename(format!("{env}.away"), &env).unwrap();
    board.boot().await;
    assert_eq!(board.booted, OLD, "the boot loader has gone back");
    board.trial.does("ArtifactCommit_Enter", "");
    board.trial.start();
    crate::trial::wait_for("the name", || board.trial.store().doubt().is_none()).await;
    board.trial.kill();
    assert_eq!(board.trial.name(), "unknown", "{}", board.told());
    next_deployment_succeeds(&mut board).await;
}

/// The switch to the new system could not be taken back, but the old system runs: the switch is taken back now.
#[tokio::test]
async fn a_boot_loader_that_still_points_away_is_pointed_back() {
    let mut board = Board::new(Ailment::None).await;
    let env = board.env.env_dir.display().to_string();
    board.trial.does(
        "ArtifactInstall_Leave",
        &format!("mv {env} {env}.away; exit 1"),
    );
    while !board.live(Duration::from_secs(60)).await {}
    assert_eq!((board.booted, board.trial.name().as_str()), (OLD, MARKED));
    std::fs::rename(format!("{env}.away"), &env).unwrap();
    board.trial.does("ArtifactInstall_Leave", "");
    board.trial.start();
    crate::trial::wait_for("the name", || board.trial.store().doubt().is_none()).await;
    board.trial.kill();
    assert_eq!(board.trial.name(), "unknown", "{}", board.told());
    next_deployment_succeeds(&mut board).await;
}

/// What the slots' numbers cannot prove, their content does.
#[tokio::test]
async fn an_image_is_recognised_by_its_checksum() {
    let mut board = Board::new(Ailment::None).await;
    board.finish().await;
    assert_eq!((board.booted, board.trial.name().as_str()), (NEW, "new"));
    // an installation that nobody knows the end of: the slot was half written, then somebody has copied the image there
    let mut store = board.trial.store();
    let facts = Facts {
        artifact_name: "other".into(),
        payload_type: Some("rootfs-image".into()),
        ..Facts::default()
    };
    let pair = Pair {
        original: NEW,
        target: OLD,
        complete: false,
    };
    store.begin_doubt(None, Some(pair), &facts).unwrap();
    store
        .save_standalone(None, Adoption::NameInconsistent, Some(&facts))
        .unwrap();
    drop(store);
    let boot = ambidex_install::boot::Boot::open(&board.env).unwrap();
    boot.write(&[("mender_boot_part", "2")]).await.unwrap();
    let start = |board: &mut Board| board.trial.start();

    // something else runs there: nothing is proven, the mark stays
    let image = std::fs::read(board.slot(NEW)).unwrap();
    board.boot().await;
    start(&mut board);
    crate::trial::wait_for("the agent's word", || {
        board.trial.log().contains("nothing proves which software")
    })
    .await;
    board.trial.kill();
    assert_eq!(board.trial.name(), "other_INCONSISTENT");

    std::fs::write(board.slot(OLD), image).unwrap();
    start(&mut board);
    crate::trial::wait_for("the name", || board.trial.store().doubt().is_none()).await;
    board.trial.kill();
    assert_eq!(board.trial.name(), "new", "{}", board.told());
}
