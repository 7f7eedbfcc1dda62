//! Making a deployment visible, with all of its targets or not at all.
//!
//! Targets are rows. A few are written in one transaction with the deployment; many are written in
//! stretches under an unpublished deployment, so that writes of devices go between, and one last short
//! transaction publishes it. Every stretch is a sign of life; if the server dies in between,
//! [`super::recovery`] removes the rest. A deployment by filter has no rows of targets: a device gets its
//! row with its first poll.

use ambidex_access::{TenantId, UserIdentity};
use ambidex_db::{DbError, Statement};
use ambidex_kit::new_id;

use super::audit;
use super::deployment::{Counts, Deployment, SOFTWARE, Status};
use super::draft::{Draft, Targets};
use super::grants;
use super::phase::{self, Phase};
use crate::Context;
use crate::error::Error;
use crate::ports::SavedFilter;
use crate::store;
use crate::store::device::{STRETCH_ROWS, Sweep};

/// How often a creation is repeated when another process took the number at the same moment.
const RACES_MAX: usize = 32;

/// All of a deployment that is about to be written.
pub(super) struct Plan {
    pub(super) deployment: Deployment,
    pub(super) phases: Vec<Phase>,
    /// Sorted, each once; empty for a deployment by filter.
    pub(super) targets: Vec<String>,
    pub(super) groups: Vec<String>,
    /// `None`: at once.
    pub(super) starts_ms: Option<i64>,
    /// Who asked, for the audit log.
    pub(super) audit: Option<Statement>,
}

/// A deployment without any of the optional parts.
pub(super) fn blank(id: String, name: String, artifact_name: String) -> Deployment {
    Deployment {
        id,
        number: 0,
        name,
        artifact_name,
        kind: SOFTWARE.to_owned(),
        created_ms: 0,
        starts_ms: 0,
        active: true,
        status: Status::Pending,
        finished_ms: None,
        device_count: 0,
        max_devices: 0,
        target_count: 0,
        dynamic: false,
        filter: None,
        group: None,
        phased: false,
        retries: 0,
        force_installation: false,
        total_size_bytes: 0,
        control_map: None,
        configuration: None,
        counts: Counts::default(),
    }
}

/// Creates a deployment and returns its id.
///
/// # Errors
/// 400 when there is no device for it, no such filter or a phase would be empty; 403 when the user's
/// roles do not cover it; 422 when there is no artifact.
pub async fn create(context: &Context, user: &UserIdentity, draft: Draft) -> Result<String, Error> {
    let tenant = &user.tenant;
    grants::check_release(context, tenant, &user.grants, &draft.artifact_name).await?;
    let mut groups = grants::check_targets(context, tenant, &user.grants, &draft.targets).await?;
    let mut deployment = blank(draft.id.clone(), draft.name, draft.artifact_name);
    deployment.retries = draft.retries;
    deployment.force_installation = draft.force_installation;
    deployment.control_map = draft.control_map;
    let mut targets = Vec::new();
    match draft.targets {
        Targets::Devices(ids) => targets = ids.into_iter().collect(),
        Targets::All => {
            targets = sorted(context.ports.inventory.accepted_devices(tenant).await?);
        }
        Targets::Group(group) => {
            let inventory = &context.ports.inventory;
            targets = sorted(inventory.devices_in_group(tenant, &group).await?);
            deployment.group = Some(group);
        }
        Targets::Filter { id, max_devices } => {
            let SavedFilter { filter, devices } =
                context
                    .ports
                    .filters
                    .saved(tenant, &id)
                    .await?
                    .ok_or_else(|| Error::invalid("filter_id: no such filter"))?;
            groups = grants::check_terms(&user.grants, &filter.terms)?;
            deployment.dynamic = true;
            deployment.target_count = devices;
            deployment.max_devices = max_devices.unwrap_or(0);
            deployment.filter = Some(store::to_json(&filter)?);
        }
    }
    if !deployment.dynamic {
        if targets.is_empty() {
            return Err(Error::invalid("No devices for the deployment"));
        }
        deployment.target_count = targets.len() as u64;
        deployment.max_devices = deployment.target_count;
    }
    let mut phases = phase::size(&draft.waves, deployment.target_count, || {
        new_id().to_string()
    })?;
    if deployment.dynamic {
        phases = phase::without_end(phases);
    }
    deployment.phased = !phases.is_empty();
    let audit = audit::deployment(context, user, audit::CREATE, &deployment);
    let plan = Plan {
        audit: Some(audit),
        deployment,
        phases,
        targets,
        groups,
        starts_ms: phase::opens_ms(&draft.waves),
    };
    run(context, tenant, plan).await?;
    Ok(draft.id)
}

/// Writes a deployment. A client that hangs up must not leave half of one: the work goes on without it.
pub(super) async fn run(context: &Context, tenant: &TenantId, plan: Plan) -> Result<(), Error> {
    let (context, tenant) = (context.clone(), tenant.clone());
    let work = tokio::spawn(async move { write(&context, &tenant, plan).await });
    work.await
        .map_err(|error| Error::Internal(format!("creating a deployment: {error}")))?
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

async fn write(context: &Context, tenant: &TenantId, mut plan: Plan) -> Result<(), Error> {
    let few = plan.targets.len() <= STRETCH_ROWS;
    let later = if few {
        Vec::new()
    } else {
        std::mem::take(&mut plan.targets)
    };
    let starts_ms = plan.starts_ms;
    let audit = plan.audit.take();
    let plan = std::sync::Arc::new(plan);
    let mut races = 0;
    let number = loop {
        let (owner, plan) = (tenant.clone(), std::sync::Arc::clone(&plan));
        let now_ms = context.clock.now_ms();
        let audit = audit.clone().filter(|_| few);
        let outcome = context
            .db
            .transaction(move |tx| -> Result<i64, Error> {
                let number = store::deployment::insert(tx, &owner, &plan.deployment, now_ms)?
                    .ok_or_else(no_artifact)?;
                for (position, phase) in plan.phases.iter().enumerate() {
                    let (sql, params) = store::phase::insert(&owner, number, position, phase);
                    tx.execute(sql, &params)?;
                }
                for group in &plan.groups {
                    let (sql, params) = store::group::insert(&owner, number, group);
                    tx.execute(sql, &params)?;
                }
                store::device::insert_waiting_within(tx, &owner, number, &plan.targets)?;
                if few {
                    let starts_ms = plan.starts_ms.unwrap_or(now_ms);
                    store::deployment::publish(tx, &owner, number, now_ms, starts_ms)?;
                }
                if let Some(audit) = &audit {
                    tx.execute(audit.sql(), audit.params())?;
                }
                Ok(number)
            })
            .await;
        match outcome {
            Err(Error::Db(DbError::UniqueViolation { constraint }))
                if constraint.contains("number") && races < RACES_MAX =>
            {
                races += 1;
            }
            outcome => break outcome?,
        }
    };
    if !few {
        let outcome = fill(context, tenant, number, &later, starts_ms, audit).await;
        if outcome.is_err() {
            discard(context, tenant, number).await?;
        }
        outcome?;
    }
    context.jobs.wake();
    Ok(())
}

fn no_artifact() -> Error {
    Error::Unprocessable("No artifact for the deployment".to_owned())
}

/// Writes many targets and publishes.
async fn fill(
    context: &Context,
    tenant: &TenantId,
    number: i64,
    targets: &[String],
    starts_ms: Option<i64>,
    audit: Option<Statement>,
) -> Result<(), Error> {
    for stretch in targets.chunks(STRETCH_ROWS) {
        let now_ms = context.clock.now_ms();
        store::device::insert_waiting_stretch(&context.db, tenant, number, stretch, now_ms).await?;
    }
    let now_ms = context.clock.now_ms();
    let owner = tenant.clone();
    context
        .db
        .transaction(move |tx| {
            store::deployment::publish(tx, &owner, number, now_ms, starts_ms.unwrap_or(now_ms))?;
            if let Some(audit) = &audit {
                tx.execute(audit.sql(), audit.params())?;
            }
            Ok(())
        })
        .await
}

/// Removes every trace of an unpublished deployment. Whoever still fills it fails with the next stretch.
///
/// # Errors
/// Those of the store; a published deployment is left alone.
pub async fn discard(context: &Context, tenant: &TenantId, number: i64) -> Result<(), Error> {
    context
        .db
        .apply(vec![store::deployment::give_up(tenant, number)])
        .await?;
    store::device::sweep(&context.db, &context.clock, tenant, number, Sweep::Delete).await?;
    let mut batch = vec![store::phase::delete(tenant, number)];
    batch.extend(store::deployment::delete_unpublished(tenant, number));
    context.db.apply(batch).await?;
    Ok(())
}
