//! W2, W3, W9: downloads that are interrupted by deaths, changed files, expired links, aborts.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ambidex_platform::spool::Checkpoint;
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

use crate::{
    COMMIT, DOWN, INSTALL, s,
    support::{Answer, Request, answer, answer_with, stall},
    trial::{Offer, Trial, aborted, wait_for},
};

/// As the configuration of these tests has it.
const CHECKPOINT_BYTES: u64 = 131_072;
/// Several checkpoints long.
const CONTENT_BYTES: usize = 1_000_000;
/// Behind the first checkpoint, before the second.
const FIRST_HALT: usize = 200_000;

/// Nothing that compresses.
fn offer() -> Offer {
    let mut content = vec![0; CONTENT_BYTES];
    StdRng::seed_from_u64(1).fill_bytes(&mut content);
    Offer {
        files: vec![("file", content)],
        ..Offer::default()
    }
}

fn start(request: &Request) -> Option<usize> {
    let (from, _) = request
        .header("range")?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    Some(from.parse().unwrap())
}

/// Knows ranges and `If-Range`; falls silent at an offset in the file that moves.
fn store(request: &Request, body: &[u8], etag: &str, halt: usize) -> Answer {
    let same = request.header("if-range").is_none_or(|known| known == etag);
    let from = start(request).filter(|_| same);
    let content = format!(
        "bytes {}-{}/{}",
        from.unwrap_or(0),
        body.len() - 1,
        body.len()
    );
    let (status, headers) = match from {
        Some(_) => (
            206,
            vec![("ETag", etag), ("Content-Range", content.as_str())],
        ),
        None => (200, vec![("ETag", etag)]),
    };
    let rest = &body[from.unwrap_or(0)..];
    let sent = halt.saturating_sub(from.unwrap_or(0));
    if sent >= rest.len() {
        answer_with(status, &headers, rest)
    } else {
        stall(status, &headers, rest, sent)
    }
}

const PATIENT: &str = "retry_download_count = 10000\n[download]\ncheckpoint_bytes = 131072";

/// The offset at which the halted download is durable.
fn durable(trial: &Trial) -> u64 {
    let found = Checkpoint::find(&trial.device.path("state/download")).unwrap();
    found.map_or(0, |checkpoint| checkpoint.offset())
}

/// A trial whose download has halted behind its first checkpoint, killed there. Returns the durable offset.
async fn killed_behind_the_first_checkpoint(trial: &mut Trial) -> u64 {
    trial.store_with(|request, body| store(request, body, "\"v1\"", FIRST_HALT));
    trial.until(|trial| durable(trial) > 0).await;
    trial.kill();
    durable(trial)
}

fn ranges(trial: &Trial) -> Vec<Option<u64>> {
    let requests = trial.server.requests_to("/artifact");
    requests
        .iter()
        .map(|request| start(request).map(|from| from as u64))
        .collect()
}

/// W2: only the rest is fetched, whatever number of deaths.
#[tokio::test]
async fn a_killed_download_goes_on_where_it_was_durable() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |_, _| None).await;
    let halt = Arc::new(AtomicUsize::new(FIRST_HALT));
    let storage = Arc::clone(&halt);
    trial.store_with(move |request, body| {
        store(request, body, "\"v1\"", storage.load(Ordering::SeqCst))
    });
    let (mut begun, mut known) = (vec![None], 0);
    for _ in 0..3 {
        trial.until(|trial| durable(trial) > known).await;
        trial.kill();
        known = durable(&trial);
        begun.push(Some(known));
        // the next life gets as far as its next checkpoint
        let next = known + CHECKPOINT_BYTES + 60_000;
        halt.store(usize::try_from(next).unwrap(), Ordering::SeqCst);
    }
    halt.store(usize::MAX, Ordering::SeqCst);
    trial.run().await;
    assert_eq!(trial.lives, 4, "{:?}\n{}", ranges(&trial), trial.log());
    let interrupted = "Download_Enter Download Cleanup";
    let chain = s(&[interrupted, interrupted, interrupted, DOWN, INSTALL, COMMIT]);
    let statuses = "downloading downloading downloading downloading installing installing success";
    trial.check(&chain, statuses, "new");
    let ranges = ranges(&trial);
    // each life begins exactly at what the one before had made durable
    let mut lives = begun.iter().peekable();
    for range in &ranges {
        lives.next_if(|begun| *begun == range);
    }
    assert_eq!(lives.next(), None, "{ranges:?} instead of {begun:?}");
    assert_eq!(
        ranges.iter().filter(|range| range.is_none()).count(),
        1,
        "the beginning was fetched again: {ranges:?}"
    );
    assert!(!trial.device.path("state/download").exists());
}

/// A file with another ETag is another file.
#[tokio::test]
async fn a_changed_file_is_downloaded_anew() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |_, _| None).await;
    killed_behind_the_first_checkpoint(&mut trial).await;
    trial.store_with(|request, body| store(request, body, "\"v2\"", usize::MAX));
    trial.run().await;
    let chain = s(&["Download_Enter Download Cleanup", DOWN, INSTALL, COMMIT]);
    trial.check(
        &chain,
        "downloading downloading installing installing success",
        "new",
    );
}

/// A file with another size is another file, even where the server knows no ETags.
#[tokio::test]
async fn a_file_of_another_size_is_downloaded_anew() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |_, _| None).await;
    killed_behind_the_first_checkpoint(&mut trial).await;
    trial.store_with(|request, body| match start(request) {
        Some(from) => {
            let content = format!("bytes {from}-{}/{}", body.len(), body.len() + 1);
            answer_with(206, &[("Content-Range", content.as_str())], &body[from..])
        }
        None => answer(200, body),
    });
    trial.run().await;
    assert!(trial.statuses().ends_with("success"), "{}", trial.log());
    assert_eq!(ranges(&trial).last(), Some(&None));
}

/// What the flash memory has damaged meanwhile is not used.
#[tokio::test]
async fn damage_to_what_was_kept_is_noticed() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |_, _| None).await;
    killed_behind_the_first_checkpoint(&mut trial).await;
    let data = trial.device.path("state/download/data");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[100_000] ^= 0x10;
    std::fs::write(&data, bytes).unwrap();
    trial.store_with(|request, body| store(request, body, "\"v1\"", usize::MAX));
    trial.run().await;
    assert!(trial.statuses().ends_with("success"), "{}", trial.log());
    assert_eq!(ranges(&trial).last(), Some(&None));
}

/// W3, after a restart: the link of the record is not valid any more.
#[tokio::test]
async fn an_expired_link_is_replaced_after_a_restart() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |_, _| None).await;
    trial.offer_link("/artifact?old");
    let known = killed_behind_the_first_checkpoint(&mut trial).await;
    trial.offer_link("/artifact?fresh");
    trial.store_with(|request, body| match request.target.as_str() {
        "/artifact?fresh" => store(request, body, "\"v1\"", usize::MAX),
        _ => answer(400, "<Error><Code>ExpiredToken</Code></Error>"),
    });
    trial.run().await;
    assert!(trial.statuses().ends_with("success"), "{}", trial.log());
    let fresh = trial.server.requests_to("/artifact?fresh");
    assert_eq!(fresh.len(), 1);
    assert_eq!(start(&fresh[0]).map(|from| from as u64), Some(known));
}

/// Everything was received, only the installation was not begun: nothing is fetched again but what was not durable.
#[tokio::test]
async fn a_stop_in_the_middle_goes_on_too() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |_, _| None).await;
    trial.store_with(|request, body| store(request, body, "\"v1\"", FIRST_HALT));
    trial.until(|trial| durable(trial) > 0).await;
    assert_eq!(trial.terminate(), Some(0), "{}", trial.log());
    let known = durable(&trial);
    trial.store_with(|request, body| store(request, body, "\"v1\"", usize::MAX));
    trial.run().await;
    assert!(trial.statuses().ends_with("success"), "{}", trial.log());
    assert_eq!(ranges(&trial).last(), Some(&Some(known)));
}

/// R7: a device that dies in every download comes to an end.
#[tokio::test]
async fn r7_for_ever_in_the_download() {
    let mut trial = Trial::new("No", "").await;
    trial.tell("kill-always", &["Download"]);
    trial.run().await;
    assert!(trial.statuses().ends_with("downloading failure"));
    assert_eq!(trial.name(), "unknown");
    assert!(trial.trace().ends_with("Download Cleanup"));
    assert!((5..30).contains(&trial.lives), "{} lives", trial.lives);
    assert!(!trial.tree().exists());
}

/// Without room nothing is kept, and nothing else is different.
#[tokio::test]
async fn without_room_the_bytes_pass_through() {
    let config = "[download]\nkeep_free_bytes = 9000000000000000000";
    let mut trial = Trial::new("No", config).await;
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        "new",
    );
    assert!(!trial.device.path("state/download").exists());
}

/// W9: the stream ends at once.
#[tokio::test]
async fn an_abort_is_noticed_in_the_middle() {
    let config = format!("{PATIENT}\nabort_check_interval_seconds = 0.2");
    let mut trial = Trial::offering(&offer(), "No", &config, |ordinal, _| {
        (ordinal >= 2).then(aborted)
    })
    .await;
    trial.store_with(|request, body| store(request, body, "\"v1\"", FIRST_HALT));
    trial
        .until(|trial| trial.statuses().ends_with("failure"))
        .await;
    assert_eq!(trial.trace(), "Download_Enter Download Cleanup");
    assert_eq!(
        trial.statuses(),
        "downloading downloading downloading failure"
    );
    assert_eq!(trial.lives, 1);
    let asked = trial.server.requests_to("/artifact").len();
    wait_for("the next poll", || {
        let polls = trial.server.requests_to("/deployments/next");
        polls.len() > 1
    })
    .await;
    assert_eq!(trial.server.requests_to("/artifact").len(), asked);
    assert!(!trial.device.path("state/download").exists());
}

/// W9, and the device was away when it happened.
#[tokio::test]
async fn an_abort_is_noticed_after_a_restart() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |ordinal, _| {
        (ordinal >= 1).then(aborted)
    })
    .await;
    killed_behind_the_first_checkpoint(&mut trial).await;
    let asked = ranges(&trial).len();
    trial
        .until(|trial| trial.statuses().ends_with("failure"))
        .await;
    assert_eq!(trial.statuses(), "downloading downloading failure");
    assert_eq!(trial.trace(), "Download_Enter Download Cleanup");
    assert_eq!(ranges(&trial).len(), asked, "nothing more is fetched");
}

/// A result that was told, but that no disk took note of, and what was received was not removed either: the deployment is
/// not taken up, and the server hears the same result again. Both losses are played by putting the state directory back.
#[tokio::test]
async fn a_told_result_that_was_not_noted_is_not_contradicted() {
    let mut trial = Trial::offering(&offer(), "No", PATIENT, |_, _| None).await;
    killed_behind_the_first_checkpoint(&mut trial).await;
    let (state, aside) = (trial.device.path("state"), trial.device.path("aside"));
    copy(&state, &aside);
    trial.store_with(|_, _| answer(200, b"no artifact".to_vec()));
    trial.run().await;
    assert!(trial.statuses().ends_with("failure"), "{}", trial.log());

    std::fs::remove_dir_all(&state).unwrap();
    copy(&aside, &state);
    trial.store_with(|request, body| store(request, body, "\"v1\"", usize::MAX));
    let (fetched, told) = (ranges(&trial).len(), trial.statuses());
    trial.start();
    wait_for("the result", || trial.statuses().len() > told.len()).await;
    wait_for("the end", || trial.is_over()).await;
    trial.kill();
    assert_eq!(trial.statuses(), s(&[&told, "failure"]), "{}", trial.log());
    assert_eq!(ranges(&trial).len(), fetched, "nothing is fetched");
    assert_eq!(trial.name(), "unknown");
    assert!(!trial.device.path("state/download").exists());
}

/// W1: a download that is taken up again and again without end is ended by the limit of the whole.
#[tokio::test]
async fn a_download_that_never_ends_is_ended() {
    let extra = format!("deployment_timeout_seconds = 2\n{PATIENT}");
    let mut trial = Trial::offering(&offer(), "No", &extra, |_, _| None).await;
    trial.store_with(|request, body| store(request, body, "\"v1\"", FIRST_HALT));
    trial.run().await;
    let reports = trial.server.requests_to("/status");
    let last = reports.last().unwrap().json();
    let reason = last["substate"].as_str().unwrap();
    assert!(reason.contains("deployment_timeout_seconds"), "{reason}");
    assert!(
        trial.trace().contains("Download_Error"),
        "{}",
        trial.trace()
    );
    assert_eq!((trial.lives, trial.name().as_str()), (1, "unknown"));
    assert!(!trial.tree().exists() && !trial.device.path("state/download").exists());
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}
