//! An artifact on its way to its handler, kept as it comes, until it is there or nobody wants it any more.

use ambidex_machine::{Event, Record};
use ambidex_wire::deployments::{DeviceStatus, StatusReport};

use super::Runner;
use crate::{
    api::{LinkErrorKind, Renewal},
    backoff::jittered,
    deployment::{
        doubt,
        fetching::{Fetching, Opened, Streamed},
        gates::UNWANTED,
        handling,
        spooling::{self, Spooled},
    },
};

impl Runner {
    pub(super) async fn open(&mut self, record: &Record) -> Event {
        let context = match handling::context(&self.config, &self.store) {
            Ok(context) => context,
            Err(error) => return Event::Failed(error.to_string()),
        };
        let provides = match self.provides() {
            Ok(provides) => provides,
            Err(error) => return Event::Failed(error.to_string()),
        };
        let renewal = Renewal {
            deployment_id: record.deployment_id.clone(),
            provides,
        };
        let (config, id) = (self.config.download.clone(), record.deployment_id.clone());
        let kept = tokio::task::spawn_blocking(move || spooling::take_up(&config, &id)).await;
        let kept = kept.ok().flatten();
        let position = kept.as_ref().map(|kept| kept.position.clone());
        let download = self.link.take_up(&record.uri, Some(renewal), position);
        let handle = download.handle();
        let cancel_download = Box::new(move || handle.cancel());
        let stored = self.store.provides().clone();
        let input = Spooled::new(
            download,
            kept,
            self.config.download.clone(),
            record.deployment_id.clone(),
        );
        let mut fetching = Fetching::start(input, cancel_download, context, stored, &self.config);
        match fetching.open(&self.stop, self.aborted(record)).await {
            Opened::Header(facts) => {
                let id = Some(record.deployment_id.as_str());
                doubt::begin(&mut self.store, &self.config, id, &facts).await;
                self.fetching = Some(fetching);
                Event::Opened(*facts)
            }
            Opened::Failed(reason) => Event::Failed(reason),
            Opened::Stopped => Event::Stopped,
            Opened::Aborted => self.given_up(record),
        }
    }

    pub(super) async fn stream(&mut self, record: &Record) -> Event {
        let Some(fetching) = self.fetching.take() else {
            return Event::Failed("the download is not open".into());
        };
        match fetching.stream(&self.stop, self.aborted(record)).await {
            Streamed::Done {
                handler,
                payload_bytes,
            } => {
                self.handling.adopt(handler);
                doubt::complete(&mut self.store, record.facts.as_ref(), payload_bytes);
                Event::Done
            }
            Streamed::Failed(reason) => Event::Failed(reason),
            Streamed::Stopped => Event::Stopped,
            Streamed::Aborted => self.given_up(record),
        }
    }

    /// An abort, whoever asked for it, as the machine sees it.
    fn given_up(&self, record: &Record) -> Event {
        if let Some(reason) = self.watch.as_ref().and_then(|watch| watch.verdict()) {
            Event::Failed(reason)
        } else if self.gates.is_unwanted(&record.deployment_id) {
            Event::Failed(UNWANTED.into())
        } else {
            Event::Aborted
        }
    }

    /// Returns when the deployment was aborted, at the device or on the server, or its time is over.
    async fn aborted(&self, record: &Record) {
        let overdue = async {
            match &self.watch {
                Some(watch) => drop(watch.overdue().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = overdue => {}
            () = self.gates.unwanted(&record.deployment_id) => {}
            () = self.aborted_on_server(record) => {}
        }
    }

    /// Returns when the server says that the deployment was aborted. It is asked by telling it once more that the device
    /// is downloading.
    async fn aborted_on_server(&self, record: &Record) {
        let report = StatusReport {
            status: DeviceStatus::Downloading,
            substate: None,
        };
        loop {
            tokio::time::sleep(jittered(self.config.download.abort_check_interval)).await;
            match self
                .link
                .report_status(&record.deployment_id, &report)
                .await
            {
                Err(error) if error.kind() == LinkErrorKind::Aborted => {
                    log::warn!("{error}; the download ends");
                    return;
                }
                Err(error) => {
                    log::debug!("whether the deployment was aborted is not known: {error}")
                }
                Ok(()) => {}
            }
        }
    }

    /// An opened download that is not streamed must not go on writing behind the back of what follows.
    pub(super) async fn end_fetching(&mut self) {
        if let Some(fetching) = self.fetching.take() {
            fetching.end().await;
        }
    }
}
