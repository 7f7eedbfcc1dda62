//! Which of two truths holds about the root file system, where a deployment has left that open.
//!
//! Before a slot is written, both truths are kept in the store: what the device provides now, and what it is to provide
//! afterwards. A commit, or an end that the device confirms, settles it. Otherwise, after a way back that failed, a
//! record that was lost, a loop that was cut, the running slot is asked: by its number, and where that is not as
//! expected by its content, compared with both checksums. What cannot be proven stays as it is, and is asked again at
//! every start: mostly the next boot decides.

use ambidex_artifact::provides::Provides;
use ambidex_install::{CancelFlag, Standing, keep_running, slot_digest, standing};
use ambidex_machine::{Adoption, Facts, Finding, Pair, Sight, Software, truth};
use serde::{Deserialize, Serialize};

use super::{
    handling,
    stop::Stop,
    store::{Store, adopt},
};
use crate::config::Config;

const IMAGE_CHECKSUM: &str = "rootfs-image.checksum";

/// An image of a root file system, as it can be found again in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub bytes: u64,
    /// SHA-256, in hexadecimal.
    pub checksum: String,
}

/// Both truths about a device whose root file system is being replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The deployment; `None`: an installation by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    pub pair: Pair,
    /// What the device provided before.
    pub before: Provides,
    /// What it is to provide afterwards comes from this.
    pub facts: Facts,
    /// The image before, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_image: Option<Image>,
    /// Size of the new image, once all of it was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_bytes: Option<u64>,
}

impl Doubt {
    /// What the device provides with this software.
    #[must_use]
    pub fn provides(&self, software: Software) -> Provides {
        let mut provides = self.before.clone();
        if software == Software::New {
            adopt(&mut provides, Adoption::Adopt, Some(&self.facts));
        }
        provides
    }

    /// The image of this software, if it is known.
    #[must_use]
    pub fn image(&self, software: Software) -> Option<Image> {
        let checksum = self.provides(software).remove(IMAGE_CHECKSUM)?;
        match software {
            // an image that was not the last one to be made permanent says nothing
            Software::Old => self
                .old_image
                .clone()
                .filter(|image| image.checksum.eq_ignore_ascii_case(&checksum)),
            Software::New => Some(Image {
                bytes: self.new_bytes?,
                checksum,
            }),
        }
    }
}

/// Keeps both truths before a slot is written. A service, never a condition: where the running slot cannot be
/// recognised, nothing is kept, not even what an earlier deployment has left.
pub async fn begin(store: &mut Store, config: &Config, deployment_id: Option<&str>, facts: &Facts) {
    if !is_rootfs(facts) {
        return;
    }
    // whoever writes the slot says why it cannot
    let seen = standing(&handling::rootfs(config)).await.ok();
    let pair = seen.and_then(|seen| {
        Some(Pair {
            original: seen.running?,
            target: seen.other()?,
            complete: false,
        })
    });
    if let Err(error) = store.begin_doubt(deployment_id, pair, facts) {
        log::warn!("{error}; should the update fail, the slots cannot be told apart afterwards");
    }
}

/// All of the payload is in place.
pub fn complete(store: &mut Store, facts: Option<&Facts>, bytes: u64) {
    if facts.is_some_and(is_rootfs)
        && let Err(error) = store.complete_doubt(bytes)
    {
        log::warn!("{error}");
    }
}

fn is_rootfs(facts: &Facts) -> bool {
    facts
        .payload_type
        .as_deref()
        .is_some_and(ambidex_install::is_rootfs)
}

/// Finds out which software runs, if that is open, and makes name and provides say so. To be called when no update is
/// in work.
pub async fn settle(store: &mut Store, config: &Config, stop: &Stop) {
    if store.deployment().is_some() || store.standalone().is_some() {
        return;
    }
    let Some(doubt) = store.doubt().cloned() else {
        if store.is_inconsistent() {
            log::warn!(
                "this device is {}: nothing on it proves what runs; the next deployment decides",
                store.artifact_name().unwrap_or_default()
            );
        }
        return;
    };
    let rootfs = handling::rootfs(config);
    let seen = match standing(&rootfs).await {
        Ok(seen) => seen,
        Err(error) => return log::warn!("which software runs cannot be found out: {error}"),
    };
    let mut sight = Sight {
        running: seen.running,
        booted: seen.booted,
        on_trial: seen.on_trial,
        content: None,
    };
    let mut finding = truth(doubt.pair, &sight);
    let as_stored = finding == Finding::Runs(Software::Old)
        && *store.provides() == doubt.provides(Software::Old);
    if !as_stored {
        sight.content = content(&doubt, &seen, stop).await;
        finding = truth(doubt.pair, &sight);
    }
    if stop.is_requested() {
        return;
    }
    if finding == Finding::GoBackFirst {
        log::warn!(
            "the previous software runs, but the boot loader is to leave it; pointing it at the running slot"
        );
        if let Err(error) = keep_running(&rootfs).await {
            return log::error!("{error}; the next boot decides which software runs");
        }
        finding = Finding::Runs(Software::Old);
    }
    match finding {
        Finding::Runs(software) => conclude(store, &doubt, &seen, &sight, software),
        Finding::Open | Finding::GoBackFirst => log::warn!(
            "which software stays is decided by the next boot: slot {} runs, the boot loader names {}{}",
            number(seen.running),
            number(seen.booted),
            if seen.on_trial { " for a trial" } else { "" }
        ),
        Finding::Unknown => log::warn!(
            "nothing proves which software runs: the root is slot {}, the update was from {} to {}",
            number(seen.running),
            doubt.pair.original,
            doubt.pair.target
        ),
    }
}

fn conclude(store: &mut Store, doubt: &Doubt, seen: &Standing, sight: &Sight, software: Software) {
    let was = store.artifact_name().unwrap_or_default().to_owned();
    let slot = number(seen.running);
    let remark = match software {
        Software::Old => format!("the previous software runs (slot {slot})"),
        Software::New => format!("the new software runs (slot {slot})"),
    };
    let changes = *store.provides() != doubt.provides(software);
    if let Err(error) = store.settle_doubt(software, changes.then_some(remark.as_str())) {
        return log::error!("{error}; which software runs is asked again at the next start");
    }
    if changes {
        let proof = if sight.content.is_some() {
            "its content has the checksum of the image"
        } else {
            "it is the slot of the image, which was whole"
        };
        log::warn!(
            "{remark}, {proof}: this device is {} again, not {was}",
            store.artifact_name().unwrap_or_default()
        );
    }
}

fn number(slot: Option<u32>) -> String {
    slot.map_or_else(|| "(unknown)".to_owned(), |slot| slot.to_string())
}

/// Whose image the running slot holds. Takes as long as reading it does.
async fn content(doubt: &Doubt, seen: &Standing, stop: &Stop) -> Option<Software> {
    let path = seen.running_path.clone()?;
    let candidates =
        [Software::Old, Software::New].map(|software| (software, doubt.image(software)));
    if let [(_, Some(old)), (_, Some(new))] = &candidates
        && old == new
    {
        return None;
    }
    log::info!("comparing {} with what was installed", path.display());
    let cancel = CancelFlag::new();
    let flag = cancel.clone();
    let reading = tokio::task::spawn_blocking(move || {
        candidates.into_iter().find_map(|(software, image)| {
            let image = image?;
            let digest = slot_digest(&path, image.bytes, &flag)
                .map_err(|error| log::warn!("{error}"))
                .ok()??;
            digest
                .to_string()
                .eq_ignore_ascii_case(&image.checksum)
                .then_some(software)
        })
    });
    tokio::select! {
        found = reading => found.ok().flatten(),
        () = stop.requested() => {
            cancel.cancel();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use ambidex_machine::{Conclusion, Record};
    use ambidex_wire::deployments::DeviceStatus;

    use super::*;

    const PAIR: Pair = Pair {
        original: 2,
        target: 3,
        complete: false,
    };

    fn facts(name: &str, checksum: &str) -> Facts {
        Facts {
            artifact_name: name.into(),
            payload_type: Some("rootfs-image".into()),
            provides: Some(Provides::from([(IMAGE_CHECKSUM.into(), checksum.into())])),
            ..Facts::default()
        }
    }

    fn record(name: &str, checksum: &str) -> Record {
        let mut record = Record::new("d1", "uri");
        record.facts = Some(facts(name, checksum));
        record
    }

    /// A device whose deployment of r2 was whole and then failed without a way back.
    fn failed() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.initialise(Some(&facts("r1", "aa"))).unwrap();
        let failed = record("r2", "bb");
        store
            .begin_doubt(Some("d1"), Some(PAIR), &facts("r2", "bb"))
            .unwrap();
        store.complete_doubt(4096).unwrap();
        let conclusion = Conclusion {
            status: DeviceStatus::Failure,
            reason: Some("it broke".into()),
            adoption: Adoption::NameInconsistent,
        };
        store.conclude(&failed, &conclusion, true).unwrap();
        assert!(store.is_inconsistent());
        (dir, store)
    }

    #[test]
    fn either_truth_replaces_the_mark_and_is_told() {
        for (software, name, checksum) in [(Software::Old, "r1", "aa"), (Software::New, "r2", "bb")]
        {
            let (dir, _) = failed();
            let mut store = Store::open(dir.path()).unwrap();
            store.settle_doubt(software, Some("this runs")).unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert_eq!(store.artifact_name(), Some(name));
            assert_eq!(store.provides()[IMAGE_CHECKSUM], checksum);
            assert!(store.doubt().is_none());
            let reason = store.reports()[0].reason.clone();
            assert_eq!(reason.as_deref(), Some("it broke; this runs"));
        }
    }

    #[test]
    fn a_commit_settles_and_remembers_the_image_and_others_have_no_say() {
        let (_dir, mut store) = failed();
        let other = Facts {
            payload_type: Some("app".into()),
            ..facts("r3", "cc")
        };
        store
            .save_standalone(None, Adoption::Keep, Some(&other))
            .unwrap();
        assert!(store.doubt().is_some());
        store
            .save_standalone(None, Adoption::NameInconsistent, Some(&other))
            .unwrap();
        assert!(store.doubt().is_none(), "something else lies over it");

        let committed = record("r4", "dd");
        store
            .begin_doubt(Some("d1"), Some(PAIR), &facts("r4", "dd"))
            .unwrap();
        store.complete_doubt(8192).unwrap();
        for _ in 0..2 {
            store.save_deployment(&committed, Adoption::Adopt).unwrap();
        }
        assert!(store.doubt().is_none());
        store
            .begin_doubt(Some("d2"), Some(PAIR), &facts("r5", "ee"))
            .unwrap();
        let doubt = store.doubt().unwrap();
        let image = doubt.image(Software::Old).unwrap();
        assert_eq!((image.bytes, image.checksum.as_str()), (8192, "dd"));
        assert_eq!(doubt.image(Software::New), None, "not whole");
    }
}
