//! Following a deployment.

use std::time::{Duration, Instant};

use ambidex_wire::deployments::DeviceStatus;
use ambidex_wire::management::deployments::{Deployment, Statistics};
use anyhow::anyhow;

use super::api::{Api, decode};
use super::deployments::path;
use super::table;
use crate::exit::{Code, Failure};

/// How often to ask: a person sees it as live, and a server does not notice it.
const PAUSE: Duration = Duration::from_secs(1);

/// Prints a line whenever something changed, until the deployment has finished.
pub async fn to_the_end(api: &Api, id: &str, limit: Option<Duration>) -> Result<(), Failure> {
    let doing = format!("cannot follow {id}");
    let begun = Instant::now();
    let mut shown = String::new();
    loop {
        let deployment: Deployment =
            decode(&api.get(&path(&[id]), &[], &doing).await?, "a deployment")?;
        let counts: Statistics = decode(
            &api.get(&path(&[id, "statistics"]), &[], &doing).await?,
            "a statistic",
        )?;
        let line = format!("{:10}  {}", deployment.status, summary(&counts));
        if line != shown {
            table::emit(&format!("{:>6} s  {line}\n", begun.elapsed().as_secs()))?;
            shown = line;
        }
        if deployment.status == "finished" {
            return verdict(id, &counts, deployment.max_devices);
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return Err(Failure {
                code: Code::DeploymentFailed,
                error: anyhow!(
                    "{id} has not finished within {} s; it goes on",
                    begun.elapsed().as_secs()
                ),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Counts that are not zero, in the order in which devices pass through them.
pub fn summary(counts: &Statistics) -> String {
    let parts: Vec<String> = DeviceStatus::ALL
        .into_iter()
        .filter_map(|status| {
            let count = counts.get(status.as_str()).copied().unwrap_or(0);
            (count > 0).then(|| format!("{count} {}", status.as_str()))
        })
        .collect();
    if parts.is_empty() {
        "no devices yet".into()
    } else {
        parts.join(", ")
    }
}

/// A deployment succeeded when every device that it was for has the release installed. Devices
/// that had not begun when it was aborted do not appear in the counts.
fn verdict(id: &str, counts: &Statistics, devices: Option<u64>) -> Result<(), Failure> {
    let good = [DeviceStatus::Success, DeviceStatus::AlreadyInstalled].map(DeviceStatus::as_str);
    let count = |wanted: bool| -> u64 {
        counts
            .iter()
            .filter(|(status, _)| good.contains(&status.as_str()) == wanted)
            .map(|(_, count)| count)
            .sum()
    };
    let (installed, otherwise) = (count(true), count(false));
    let expected = devices.unwrap_or(installed + otherwise).max(1);
    if otherwise == 0 && installed >= expected {
        return Ok(());
    }
    Err(Failure {
        code: Code::DeploymentFailed,
        error: anyhow!(
            "{id} is installed on {installed} of {expected} devices ({}); see: ambidex deployments logs {id}",
            summary(counts)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Statistics {
        pairs
            .iter()
            .map(|(status, count)| ((*status).to_owned(), *count))
            .collect()
    }

    #[test]
    fn verdicts() {
        assert!(
            verdict(
                "x",
                &counts(&[("success", 2), ("failure", 0), ("already-installed", 1)]),
                Some(3)
            )
            .is_ok()
        );
        assert!(verdict("x", &counts(&[("success", 2)]), None).is_ok());
        for (bad, devices) in [
            (counts(&[("success", 2), ("failure", 1)]), None),
            (counts(&[("success", 2), ("aborted", 1)]), Some(2)),
            (counts(&[("success", 2), ("noartifact", 1)]), None),
            (counts(&[("success", 2), ("pending", 1)]), None),
            (counts(&[("success", 2)]), Some(3)),
            (counts(&[]), Some(1)),
            (counts(&[]), None),
        ] {
            let Err(failure) = verdict("x", &bad, devices) else {
                panic!("{bad:?}")
            };
            assert_eq!(failure.code, Code::DeploymentFailed);
        }
    }

    #[test]
    fn summaries_follow_the_course_of_an_update() {
        let text = summary(&counts(&[
            ("success", 1),
            ("pending", 3),
            ("downloading", 2),
            ("failure", 0),
        ]));
        assert_eq!(text, "3 pending, 2 downloading, 1 success");
        assert_eq!(summary(&counts(&[])), "no devices yet");
    }
}
