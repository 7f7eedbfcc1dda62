//! Making a deployment visible, with all of its targets or not at all.
//!
//! Targets are rows. A few are written in one transaction with the deployment; many are written in
//! stretches under an unpublished deployment, so that writes of devices go between, and one last short
//! transaction publishes it. If the server dies in between, [`super::recovery`] removes the rest.

use ambidex_access::TenantId;
use ambidex_kit::new_id;

use super::deployment::{Counts, Deployment, Status};
use super::draft::{Draft, Targets};
use super::phase::{self, Phase};
use crate::Context;
use crate::error::Error;
use crate::store;
use crate::store::device::{STRETCH_ROWS, Sweep};

/// Creates a deployment and returns its id.
///
/// # Errors
/// 400 when there is no device for it or a phase would be empty; 422 when there is no artifact.
pub async fn create(context: &Context, tenant: &TenantId, draft: Draft) -> Result<String, Error> {
    let Draft {
        name,
        artifact_name,
        targets,
        waves,
        retries,
        force_installation,
    } = draft;
    let mut group_name = None;
    let targets: Vec<String> = match targets {
        Targets::Devices(ids) => ids.into_iter().collect(),
        Targets::All => sorted(context.ports.inventory.accepted_devices(tenant).await?),
        Targets::Group(group) => {
            let ids = context
                .ports
                .inventory
                .devices_in_group(tenant, &group)
                .await?;
            group_name = Some(group);
            sorted(ids)
        }
    };
    if targets.is_empty() {
        return Err(Error::invalid("No devices for the deployment"));
    }
    let count = targets.len() as u64;
    let phases = phase::size(&waves, count, || new_id().to_string())?;
    let id = new_id().to_string();
    let deployment = Deployment {
        id: id.clone(),
        number: 0,
        name,
        artifact_name,
        kind: "software".to_owned(),
        created_ms: 0,
        starts_ms: 0,
        active: true,
        status: Status::Pending,
        finished_ms: None,
        device_count: 0,
        max_devices: count,
        target_count: count,
        dynamic: false,
        filter: None,
        group: group_name,
        phased: !phases.is_empty(),
        retries,
        force_installation,
        total_size_bytes: 0,
        counts: Counts::default(),
    };
    let starts_ms = phase::opens_ms(&waves);
    // A client that hangs up must not leave half a deployment: the work goes on without it.
    let (context, tenant) = (context.clone(), tenant.clone());
    let work = tokio::spawn(async move {
        write(&context, &tenant, deployment, phases, targets, starts_ms).await
    });
    work.await
        .map_err(|error| Error::Internal(format!("creating a deployment: {error}")))??;
    Ok(id)
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

async fn write(
    context: &Context,
    tenant: &TenantId,
    deployment: Deployment,
    phases: Vec<Phase>,
    targets: Vec<String>,
    starts_ms: Option<i64>,
) -> Result<(), Error> {
    let few = targets.len() <= STRETCH_ROWS;
    let now_ms = context.clock.now_ms();
    let (within, later) = if few {
        (targets, Vec::new())
    } else {
        (Vec::new(), targets)
    };
    let owner = tenant.clone();
    let number = context
        .db
        .transaction(move |tx| -> Result<i64, Error> {
            let number = store::deployment::insert(tx, &owner, &deployment)?
                .ok_or_else(|| Error::Unprocessable("No artifact for the deployment".to_owned()))?;
            for (position, phase) in phases.iter().enumerate() {
                let (sql, params) = store::phase::insert(&owner, number, position, phase);
                tx.execute(sql, &params)?;
            }
            store::device::insert_waiting_within(tx, &owner, number, &within)?;
            if few {
                store::deployment::publish(
                    tx,
                    &owner,
                    number,
                    now_ms,
                    starts_ms.unwrap_or(now_ms),
                )?;
            }
            Ok(number)
        })
        .await?;
    if few {
        return Ok(());
    }
    let outcome = fill(context, tenant, number, &later, starts_ms).await;
    if outcome.is_err() {
        discard(context, tenant, number).await?;
    }
    outcome
}

/// Writes many targets and publishes.
async fn fill(
    context: &Context,
    tenant: &TenantId,
    number: i64,
    targets: &[String],
    starts_ms: Option<i64>,
) -> Result<(), Error> {
    for stretch in targets.chunks(STRETCH_ROWS) {
        store::device::insert_waiting_stretch(&context.db, tenant, number, stretch).await?;
    }
    let now_ms = context.clock.now_ms();
    let owner = tenant.clone();
    context
        .db
        .transaction(move |tx| {
            store::deployment::publish(tx, &owner, number, now_ms, starts_ms.unwrap_or(now_ms))
        })
        .await
}

/// Removes every trace of an unpublished deployment.
///
/// # Errors
/// Those of the store.
pub async fn discard(context: &Context, tenant: &TenantId, number: i64) -> Result<(), Error> {
    store::device::sweep(&context.db, tenant, number, Sweep::Delete).await?;
    let mut batch = vec![store::phase::delete(tenant, number)];
    batch.extend(store::deployment::delete_unpublished(tenant, number));
    context.db.apply(batch).await?;
    Ok(())
}
