//! A device asks for its next update.
//!
//! The order of the steps is that of the reference (how the next update is chosen): an unfinished
//! deployment goes on; else the oldest one newer than the last finished; a phase must have room; the
//! artifact is assigned once. Every write is conditional on what was read, so parallel polls neither
//! overfill a phase nor count a device twice; who loses a race reads again.

use std::collections::BTreeMap;

use ambidex_access::TenantId;
use ambidex_wire::deployments::DeviceStatus;

use super::artifact::{self, Candidate};
use super::deployment::Counts;
use super::device::State;
use super::draft::check_text;
use super::dynamic;
use super::phase;
use crate::Context;
use crate::error::Error;
use crate::store;
use crate::store::deployment::{Guard, Shift};
use crate::store::device::{Open, TakenUp};

/// Longest device type and artifact name of a poll, in characters.
const TEXT_CHARS_MAX: usize = 4096;

/// How often a poll reads again after losing a race. Each loss means that another poll has moved on,
/// so this is only reached when hundreds of polls hit one deployment at once.
const RACES_MAX: usize = 256;

/// What a device says when it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    pub device_type: String,
    pub artifact_name: String,
    /// Everything that the device provides; `None` when it did not say.
    pub provides: Option<BTreeMap<String, String>>,
}

impl Poll {
    /// Checks the two texts that every poll has.
    ///
    /// # Errors
    /// 400 that names what is missing or too long.
    pub fn new(
        device_type: Option<String>,
        artifact_name: Option<String>,
        provides: Option<BTreeMap<String, String>>,
    ) -> Result<Self, Error> {
        let device_type = device_type.unwrap_or_default();
        let artifact_name = artifact_name.unwrap_or_default();
        let wrong: Vec<String> = [
            ("artifact_name", &artifact_name),
            ("device_type", &device_type),
        ]
        .into_iter()
        .filter_map(|(field, text)| check_text(field, text, TEXT_CHARS_MAX).err())
        .map(|error| error.to_string().trim_end_matches('.').to_owned())
        .collect();
        if !wrong.is_empty() {
            return Err(Error::invalid(format!("{}.", wrong.join("; "))));
        }
        Ok(Self {
            device_type,
            artifact_name,
            provides,
        })
    }
}

/// What a device is to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub deployment_id: String,
    pub artifact_name: String,
    /// `None`: the artifact is made of the deployment's configuration when the device fetches it.
    pub artifact: Option<Candidate>,
    /// Where the device is to pause, as JSON.
    pub control_map: Option<String>,
}

/// What a poll comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// Hand out this artifact; `fresh` when it was not assigned before.
    Offer { artifact: Candidate, fresh: bool },
    /// Hand out the deployment's configuration.
    Configuration,
    /// The device needs nothing.
    Finish(DeviceStatus),
}

/// Decides from what was read; pure.
fn decide(open: &Open, poll: &Poll, candidates: Vec<Candidate>) -> Decision {
    if open.configuration {
        return Decision::Configuration;
    }
    let installed = poll.artifact_name == open.artifact_name;
    if installed && !open.force_installation && open.status == DeviceStatus::Pending {
        return Decision::Finish(DeviceStatus::AlreadyInstalled);
    }
    // An artifact once assigned stays, whatever the device provides meanwhile: it may be half
    // installed. Another device type means other hardware.
    if open.device_type.as_deref() == Some(poll.device_type.as_str()) {
        let pinned = candidates
            .iter()
            .find(|candidate| open.artifact_id.as_deref() == Some(candidate.id.as_str()));
        if let Some(pinned) = pinned {
            return Decision::Offer {
                artifact: pinned.clone(),
                fresh: false,
            };
        }
    }
    match artifact::choose(&candidates, &poll.device_type, poll.provides.as_ref()) {
        Some(chosen) => Decision::Offer {
            artifact: chosen.clone(),
            fresh: true,
        },
        None => Decision::Finish(DeviceStatus::NoArtifact),
    }
}

/// The next update of a device, `None` when there is none.
///
/// # Errors
/// Those of the store.
pub async fn next(
    context: &Context,
    tenant: &TenantId,
    device_id: &str,
    poll: &Poll,
) -> Result<Option<Offer>, Error> {
    if !store::device::any_open(&context.db, tenant, device_id).await? {
        return Ok(None);
    }
    for _ in 0..RACES_MAX {
        let now_ms = context.clock.now_ms();
        let found = store::device::next_open(&context.db, tenant, device_id, now_ms).await?;
        let open = match found {
            // What was begun is brought to its end.
            Some(open) if open.state == State::Active => open,
            waiting => {
                match dynamic::earliest(context, tenant, device_id, waiting, now_ms).await? {
                    Some(open) => open,
                    None => return Ok(None),
                }
            }
        };
        let outcome = match open.state {
            State::Waiting => take_up(context, tenant, device_id, poll, open, now_ms).await,
            _ => go_on(context, tenant, device_id, poll, open, now_ms).await,
        };
        match outcome {
            Err(error) if error.is_lost_race() => {}
            outcome => return outcome,
        }
    }
    Err(Error::Internal(format!(
        "poll lost {RACES_MAX} races in a row"
    )))
}

/// The device asks for this deployment for the first time.
async fn take_up(
    context: &Context,
    tenant: &TenantId,
    device_id: &str,
    poll: &Poll,
    open: Open,
    now_ms: i64,
) -> Result<Option<Offer>, Error> {
    let mut batch = Vec::with_capacity(4);
    if open.phased {
        let phases = store::phase::list(&context.db, tenant, open.number).await?;
        let Some(position) = phase::open(&phases, now_ms) else {
            return Ok(None);
        };
        batch.push(store::phase::enter(tenant, open.number, position, now_ms));
    }
    let candidates = candidates(context, tenant, &open).await?;
    let decision = decide(&open, poll, candidates);
    let (status, artifact) = match &decision {
        Decision::Offer { artifact, .. } => (
            DeviceStatus::Pending,
            Some((artifact.id.as_str(), artifact.size_bytes)),
        ),
        Decision::Configuration => (DeviceStatus::Pending, None),
        Decision::Finish(status) => (*status, None),
    };
    let taken = TakenUp {
        status,
        place: open.place,
        device_type: &poll.device_type,
        artifact,
        now_ms,
    };
    let counts = if open.dynamic {
        // Nobody counted it before.
        batch.push(store::dynamic::join(tenant, open.number, device_id, &taken));
        Counts::default().plus(status, 1)
    } else {
        batch.push(store::device::take_up(
            tenant,
            open.number,
            device_id,
            &taken,
        ));
        Counts::moved(DeviceStatus::Pending, status)
    };
    let shift = Shift {
        counts,
        device_count: 1,
        size_bytes: artifact.map_or(0, |(_, size_bytes)| size_bytes),
    };
    batch.push(store::deployment::shift(
        tenant,
        open.number,
        shift,
        Guard::Active,
    ));
    if status.is_final() {
        batch.push(store::deployment::settle(tenant, open.number, now_ms));
    }
    context.db.apply(batch).await?;
    Ok(offer(open, decision))
}

/// The device asks again for a deployment that it has not finished.
async fn go_on(
    context: &Context,
    tenant: &TenantId,
    device_id: &str,
    poll: &Poll,
    open: Open,
    now_ms: i64,
) -> Result<Option<Offer>, Error> {
    let candidates = candidates(context, tenant, &open).await?;
    let decision = decide(&open, poll, candidates);
    let again = |artifact: Option<(&str, u64)>| {
        context.db.apply(vec![store::device::offer_again(
            tenant,
            open.number,
            device_id,
            &poll.device_type,
            artifact,
            open.status,
        )])
    };
    match &decision {
        Decision::Offer { artifact, fresh } => {
            if *fresh || !open.offered {
                again(Some((&artifact.id, artifact.size_bytes))).await?;
            }
        }
        Decision::Configuration => {
            if !open.offered {
                again(None).await?;
            }
        }
        Decision::Finish(status) => {
            let reported = store::device::Reported {
                from: open.status,
                to: *status,
                attempts: open.attempts,
                offered: false,
                substate: None,
                now_ms,
            };
            let shift = Shift {
                counts: Counts::moved(open.status, *status),
                ..Shift::default()
            };
            context
                .db
                .apply(vec![
                    store::device::report(tenant, open.number, device_id, &reported),
                    store::deployment::shift(tenant, open.number, shift, Guard::NotAborted),
                    store::deployment::settle(tenant, open.number, now_ms),
                ])
                .await?;
        }
    }
    Ok(offer(open, decision))
}

async fn candidates(
    context: &Context,
    tenant: &TenantId,
    open: &Open,
) -> Result<Vec<Candidate>, Error> {
    if open.configuration {
        return Ok(Vec::new());
    }
    store::artifact::candidates(&context.db, tenant, &open.artifact_name).await
}

fn offer(open: Open, decision: Decision) -> Option<Offer> {
    let artifact = match decision {
        Decision::Offer { artifact, .. } => Some(artifact),
        Decision::Configuration => None,
        Decision::Finish(_) => return None,
    };
    Some(Offer {
        deployment_id: open.deployment_id,
        artifact_name: open.artifact_name,
        artifact,
        control_map: open.control_map,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn open(status: DeviceStatus) -> Open {
        Open {
            number: 1,
            state: State::of(status),
            status,
            offered: true,
            device_type: Some("qemu".to_owned()),
            artifact_id: Some("a2".to_owned()),
            deployment_id: "d".to_owned(),
            place: 1,
            artifact_name: "release-2".to_owned(),
            force_installation: false,
            phased: false,
            attempts: 0,
            dynamic: false,
            configuration: false,
            control_map: None,
        }
    }

    fn candidates() -> Vec<Candidate> {
        ["a1", "a2"]
            .map(|id| Candidate {
                id: id.to_owned(),
                blob_key: id.to_owned(),
                size_bytes: 1,
                device_types: vec!["qemu".to_owned()],
                depends: BTreeMap::default(),
            })
            .to_vec()
    }

    fn poll(device_type: &str, artifact_name: &str) -> Poll {
        Poll::new(
            Some(device_type.to_owned()),
            Some(artifact_name.to_owned()),
            None,
        )
        .unwrap()
    }

    fn offered(decision: Decision) -> Option<(String, bool)> {
        match decision {
            Decision::Offer { artifact, fresh } => Some((artifact.id, fresh)),
            Decision::Configuration | Decision::Finish(_) => None,
        }
    }

    #[test]
    fn an_assigned_artifact_stays() {
        let decision = decide(
            &open(DeviceStatus::Pending),
            &poll("qemu", "old"),
            candidates(),
        );
        assert_eq!(offered(decision), Some(("a2".into(), false)));
    }

    #[test]
    fn a_removed_or_unassigned_artifact_is_chosen_anew() {
        let unassigned = Open {
            artifact_id: None,
            ..open(DeviceStatus::Pending)
        };
        let decision = decide(&unassigned, &poll("qemu", "old"), candidates());
        assert_eq!(offered(decision), Some(("a1".into(), true)));
        let other = decide(
            &open(DeviceStatus::Downloading),
            &poll("arm", "old"),
            candidates(),
        );
        assert_eq!(other, Decision::Finish(DeviceStatus::NoArtifact));
    }

    #[test]
    fn already_installed_counts_only_before_the_first_report() {
        let same = poll("qemu", "release-2");
        assert_eq!(
            decide(&open(DeviceStatus::Pending), &same, candidates()),
            Decision::Finish(DeviceStatus::AlreadyInstalled)
        );
        assert!(offered(decide(&open(DeviceStatus::Installing), &same, candidates())).is_some());
        let forced = Open {
            force_installation: true,
            ..open(DeviceStatus::Pending)
        };
        assert!(offered(decide(&forced, &same, candidates())).is_some());
        let other_type = decide(
            &open(DeviceStatus::Pending),
            &poll("arm", "release-2"),
            Vec::new(),
        );
        assert_eq!(other_type, Decision::Finish(DeviceStatus::AlreadyInstalled));
    }

    #[test]
    fn missing_keys_are_named_in_order() {
        let error = Poll::new(None, None, None).unwrap_err().to_string();
        assert_eq!(
            error,
            "artifact_name: cannot be blank; device_type: cannot be blank."
        );
        assert!(Poll::new(Some("x".repeat(4097)), Some("a".into()), None).is_err());
    }
}
