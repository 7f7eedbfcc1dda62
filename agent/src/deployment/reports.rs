//! Results of deployments that the server has to learn, and how they get there.
//!
//! A result is queued in the same save that ends its deployment, and stays queued until the server has taken it, over
//! restarts. The server may see the same result twice when the power fails between its answer and our note of it.

use ambidex_machine::{Conclusion, Record};
use ambidex_wire::deployments::{DeviceStatus, StatusReport};
use serde::{Deserialize, Serialize};

use super::{stop::Stop, store::Store};
use crate::{
    api::{Link, LinkError, LinkErrorKind},
    backoff::{Backoff, jittered},
    config::Config,
    logbook,
};

/// The result of one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalReport {
    pub deployment_id: String,
    pub status: DeviceStatus,
    /// Why it failed; sent as `substate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the deployment's log goes to the server, too (failures only).
    #[serde(default)]
    pub with_log: bool,
    /// The server has taken the status; only the log is missing.
    #[serde(default)]
    pub accepted: bool,
}

impl FinalReport {
    pub(super) fn new(record: &Record, conclusion: &Conclusion, with_log: bool) -> Self {
        Self {
            deployment_id: record.deployment_id.clone(),
            status: conclusion.status,
            reason: conclusion.reason.clone(),
            with_log,
            accepted: false,
        }
    }

    fn body(&self) -> StatusReport {
        StatusReport {
            status: self.status,
            substate: self.reason.clone(),
        }
    }
}

/// What became of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing is left but what the server refuses.
    Delivered,
    /// Something is left for later; a new deployment should wait for it.
    Waiting,
    Stopped,
}

/// What became of one exchange.
enum Sent {
    /// The server has it, or will never want it.
    Settled,
    /// Not taken, and another try now would end the same.
    Refused(String),
    /// Worth another try.
    Later {
        text: String,
        retry_after: Option<std::time::Duration>,
    },
}

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// With backoff, right after a deployment.
    Insist,
    /// One try, before a poll.
    Once,
}

/// Sends what is queued, oldest first.
pub async fn deliver(
    store: &mut Store,
    link: &Link,
    config: &Config,
    effort: Effort,
    stop: &Stop,
) -> Delivery {
    let mut backoff = Backoff::new(&config.polls);
    // Refused for reasons that another try now cannot change; a later poll tries again.
    let mut refused: Vec<String> = Vec::new();
    loop {
        let next = store
            .reports()
            .iter()
            .find(|report| !refused.contains(&report.deployment_id));
        let Some(report) = next.cloned() else { break };
        match send_next_part(&report, link, config).await {
            Sent::Settled => {
                backoff.reset();
                note(store, &report);
            }
            Sent::Refused(text) => {
                log::error!(
                    "{text}; the result of deployment {} is kept",
                    report.deployment_id
                );
                refused.push(report.deployment_id);
            }
            Sent::Later { text, retry_after } => {
                let wait = match effort {
                    Effort::Once => None,
                    Effort::Insist => backoff.next_wait(),
                };
                let Some(wait) = wait else {
                    log::warn!(
                        "{text}; the result of deployment {} is kept for later",
                        report.deployment_id
                    );
                    return Delivery::Waiting;
                };
                let wait = retry_after.unwrap_or_else(|| jittered(wait));
                log::warn!("{text}; trying again in {} s", wait.as_secs());
                tokio::select! {
                    () = stop.requested() => return Delivery::Stopped,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
    Delivery::Delivered
}

/// Remembers that the part that was missing is done.
fn note(store: &mut Store, report: &FinalReport) {
    let log_missing = report.with_log && !report.accepted;
    let saved = store.change_reports(|reports| {
        if log_missing {
            for queued in reports
                .iter_mut()
                .filter(|queued| queued.deployment_id == report.deployment_id)
            {
                queued.accepted = true;
            }
        } else {
            reports.retain(|queued| queued.deployment_id != report.deployment_id);
        }
    });
    if let Err(error) = saved {
        // It would be sent again for ever: forget it for the life of this process.
        log::error!(
            "{error}; the result of deployment {} may be sent again",
            report.deployment_id
        );
        store.mute_reports();
    }
}

async fn send_next_part(report: &FinalReport, link: &Link, config: &Config) -> Sent {
    let id = &report.deployment_id;
    if !report.accepted {
        log::info!("reporting {} for deployment {id}", report.status);
        return match link.report_status(id, &report.body()).await {
            Ok(()) => Sent::Settled,
            Err(error) if error.kind() == LinkErrorKind::Permanent => {
                Sent::Refused(error.to_string())
            }
            Err(error) => settled_or_later(error, "the result is no longer wanted"),
        };
    }
    match logbook::report(&config.update_log_path, id) {
        Ok(log) => match link.upload_log(id, &log).await {
            Ok(()) => Sent::Settled,
            Err(error) => settled_or_later(error, "the log stays on the device"),
        },
        Err(error) => {
            log::warn!("cannot read the log of deployment {id}: {error}");
            Sent::Settled
        }
    }
}

/// An aborted or unknown deployment, or a log that is not taken, ends the matter.
fn settled_or_later(error: LinkError, consequence: &str) -> Sent {
    match error.kind() {
        LinkErrorKind::Aborted | LinkErrorKind::Gone | LinkErrorKind::Permanent => {
            log::warn!("{error}; {consequence}");
            Sent::Settled
        }
        LinkErrorKind::Transient { .. }
        | LinkErrorKind::Unauthorized
        | LinkErrorKind::Cancelled => Sent::Later {
            retry_after: error.retry_after(),
            text: error.to_string(),
        },
    }
}
