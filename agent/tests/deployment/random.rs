//! The agent dies at random moments, again and again; what the server hears and what the device runs must agree.
//!
//! The seed is printed with a failure; `AMBIDEX_TEST_SEED` repeats it and `AMBIDEX_TEST_ROUNDS` sets how many are
//! tried.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::trial::Trial;

/// Rounds of an ordinary test run.
const ROUNDS: u64 = 6;
/// Deaths in one round, at most.
const DEATHS_MAX: usize = 6;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn round(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut trial = Trial::new(if random.gen_bool(0.5) { "Yes" } else { "No" }, "").await;
    let software = trial.device.path("lab/software");
    std::fs::write(&software, "old").unwrap();
    trial.does(
        "ArtifactInstall",
        "echo -n mixed > $LAB/software; sleep 0.02; echo -n new > $LAB/software",
    );
    trial.does(
        "ArtifactRollback",
        "echo -n mixed > $LAB/software; sleep 0.02; echo -n old > $LAB/software",
    );
    if random.gen_bool(0.3) {
        trial.tell(
            "fail",
            &[
                ["ArtifactInstall", "ArtifactVerifyReboot", "ArtifactCommit"]
                    [random.gen_range(0..3)],
            ],
        );
    }
    let limit = Instant::now() + Duration::from_secs(60);
    for _ in 0..DEATHS_MAX {
        trial.start();
        // From before its first word to the end of a whole deployment.
        let life = Duration::from_millis(random.gen_range(20..1500));
        let until = Instant::now() + life;
        while Instant::now() < until && trial.is_alive() && !trial.is_over() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        trial.kill();
        // As the service manager does: what the agent had started ends before it starts again.
        while trial.is_something_running() {
            assert!(
                Instant::now() < limit,
                "seed {seed}: a program does not end"
            );
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        if trial.is_over() {
            break;
        }
    }
    trial.until(Trial::is_over).await;
    trial.kill();
    let statuses = trial.statuses();
    let software = std::fs::read_to_string(&software).unwrap();
    let told = format!(
        "seed {seed}: {statuses}; {software}; {}; {}\n{}",
        trial.name(),
        trial.trace(),
        trial.log()
    );
    let finals: Vec<&str> = statuses
        .split(' ')
        .filter(|word| ["success", "failure"].contains(word))
        .collect();
    assert!(
        finals.iter().all(|status| *status == finals[0]),
        "contradicting results: {told}"
    );
    match finals[0] {
        "success" => assert_eq!(
            (software.as_str(), trial.name().as_str()),
            ("new", "new"),
            "{told}"
        ),
        _ => assert_eq!(
            (software.as_str(), trial.name().as_str()),
            ("old", "unknown"),
            "{told}"
        ),
    }
    assert!(
        trial
            .trace()
            .split(' ')
            .filter(|call| *call == "Commit")
            .count()
            <= 1,
        "two commits: {told}"
    );
    assert!(!trial.tree().exists(), "{told}");
}

#[tokio::test]
async fn random_deaths() {
    let first = from_env("AMBIDEX_TEST_SEED");
    let rounds =
        from_env("AMBIDEX_TEST_ROUNDS").unwrap_or(if first.is_some() { 1 } else { ROUNDS });
    let first = first.unwrap_or_else(|| rand::thread_rng().r#gen::<u32>().into());
    for seed in first..first + rounds {
        round(seed).await;
    }
}
