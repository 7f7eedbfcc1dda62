//! What the server is told on the way, and where a deployment waits until it may go on.

use ambidex_machine::{Event, Gate, Record, Step};
use ambidex_wire::deployments::{DeviceStatus, StatusReport};

use super::Runner;
use crate::{
    api::{LinkError, LinkErrorKind},
    backoff::{Backoff, jittered},
    deployment::gates::UNWANTED,
};

impl Runner {
    pub(super) async fn report_once(&self, record: &Record, status: DeviceStatus) -> Event {
        log::info!("reporting {status}");
        match self
            .link
            .report_status(&record.deployment_id, &body(record, status))
            .await
        {
            Ok(()) => Event::Done,
            Err(error) if error.kind() == LinkErrorKind::Aborted => Event::Aborted,
            Err(error) => Event::Failed(error.to_string()),
        }
    }

    pub(super) async fn report_until_accepted(
        &self,
        record: &Record,
        status: DeviceStatus,
    ) -> Event {
        log::info!("reporting {status}; the server has to answer");
        // Without server contact as a condition one try tells the server, and tells us of an abort.
        let needed = self.config.commit.server_contact || status != DeviceStatus::Installing;
        let report = body(record, status);
        let mut backoff = Backoff::new(&self.config.polls);
        loop {
            let telling = async {
                if record.step == Step::ReportRestarted && !self.is_offered(record).await? {
                    return Ok(false);
                }
                self.link
                    .report_status(&record.deployment_id, &report)
                    .await
                    .map(|()| true)
            };
            let sent = tokio::select! {
                sent = telling => sent,
                () = self.stop.requested() => return Event::Stopped,
            };
            let error = match sent {
                Ok(true) => return Event::Done,
                Ok(false) => {
                    log::warn!("the server does not offer this deployment any more");
                    return Event::Aborted;
                }
                Err(error) if error.kind() == LinkErrorKind::Aborted => return Event::Aborted,
                Err(error) => error,
            };
            if !needed {
                log::warn!(
                    "{error}; contact to the server is no condition of the commit, going on"
                );
                return Event::Done;
            }
            let Some(wait) = backoff.next_wait() else {
                return Event::Failed(format!("the server was not reached in time: {error}"));
            };
            let wait = error.retry_after().unwrap_or_else(|| jittered(wait));
            log::warn!("{error}; trying again in {} s", wait.as_secs());
            tokio::select! {
                () = self.stop.requested() => return Event::Stopped,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether the server still offers the deployment that a restart has interrupted. One that has ended is
    /// not offered any more: that is how a result is found out which was told, but which no disk took note of.
    async fn is_offered(&self, record: &Record) -> Result<bool, LinkError> {
        let provides = self
            .provides()
            .map_err(|error| LinkError::transient(error.to_string()))?;
        let offered = self.link.next_deployment(&provides).await?;
        Ok(offered.is_some_and(|offered| offered.id == record.deployment_id))
    }

    /// Waits until the gate is open. The server is told at once, and again from time to time, so that it sees the device
    /// and the device sees an abort.
    pub(super) async fn hold(&self, record: &Record, gate: Gate) -> Event {
        let id = &record.deployment_id;
        if gate == Gate::Install && self.resumed {
            // nothing is active yet: whether it ended meanwhile is worth a question, but not worth waiting for
            let offered = tokio::select! {
                offered = self.is_offered(record) => offered,
                () = self.stop.requested() => return Event::Stopped,
            };
            if matches!(offered, Ok(false)) {
                log::warn!("the server does not offer this deployment any more");
                return Event::Aborted;
            }
        }
        let mut tell = tokio::time::Instant::now();
        let mut said = None;
        loop {
            let mut changes = self.gates.changes();
            if self.gates.is_unwanted(id) {
                return Event::Failed(UNWANTED.into());
            }
            let Some(held) = self.gates.closed(gate, id) else {
                break;
            };
            self.gates.show(Some(id), Some((gate, held)));
            if said != Some(held.as_str()) {
                said = Some(held.as_str());
                log::info!("held before {}: {held}", gate.as_str());
            }
            if tell <= tokio::time::Instant::now() {
                let told = tokio::select! {
                    told = self.report_once(record, gate.status()) => told,
                    () = self.stop.requested() => return Event::Stopped,
                };
                if told == Event::Aborted {
                    return told;
                }
                tell = tokio::time::Instant::now() + jittered(self.config.polls.update_interval);
            }
            let next = tell - tokio::time::Instant::now();
            tokio::select! {
                () = self.stop.requested() => return Event::Stopped,
                // the sender lives as long as we do
                _ = changes.changed() => {}
                () = tokio::time::sleep(next.min(held.look_again())) => {}
            }
        }
        if said.is_some() {
            log::info!("going on before {}", gate.as_str());
            self.gates.show(Some(id), None);
        }
        Event::Done
    }
}

/// A report; the final one of a deployment whose result could not be queued says why.
fn body(record: &Record, status: DeviceStatus) -> StatusReport {
    let substate = if record.step == Step::ReportFinal {
        record.reason.clone()
    } else {
        None
    };
    StatusReport { status, substate }
}
