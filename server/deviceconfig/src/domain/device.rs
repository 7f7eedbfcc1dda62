//! Devices and their settings.

use ambidex_access::{TenantId, UserIdentity};
use ambidex_db::{DbError, Statement};
use ambidex_kit::{current_request_id, new_id, rfc3339};
use ambidex_wire::management::auditlogs::{Actor, Event, Object};
use ambidex_wire::management::deviceconfig::{
    Configuration, DeviceConfiguration, NewConfigurationDeployment,
};
use serde_json::{Map, Value, json};

use crate::Inner;
use crate::error::DeviceconfigError;
use crate::store::device::{self, DeviceRow};

use super::configuration;

/// Concurrent changes of one configuration are decided anew this often.
const ATTEMPTS_MAX: usize = 16;
/// Length of a device's id, in bytes: one of ours has 36.
const ID_BYTES_MAX: usize = 128;
/// Attempts on a device that a deployment may ask for.
const RETRIES_MAX: u32 = 100;
/// Plan that update control belongs to.
const PLAN_OF_CONTROL: &str = "enterprise";

/// What a user wants to do with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Look,
    Deploy,
}

/// Whether the user's roles reach the device.
pub(crate) async fn check_grants(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
    intent: Intent,
) -> Result<(), DeviceconfigError> {
    let limited = match intent {
        Intent::Look => user.grants.inventory_groups.is_some(),
        Intent::Deploy => user.grants.deployment_groups.is_some(),
    };
    if !limited {
        return Ok(());
    }
    let group = inner.ports.inventory.group_of(&user.tenant, id).await?;
    let granted = match intent {
        Intent::Look => user.grants.sees_device(id, group.as_deref()),
        Intent::Deploy => user.grants.may_deploy_to(id, group.as_deref()),
    };
    if granted {
        Ok(())
    } else {
        Err(DeviceconfigError::Forbidden("Access denied (RBAC)."))
    }
}

async fn find(inner: &Inner, tenant: &TenantId, id: &str) -> Result<DeviceRow, DeviceconfigError> {
    device::by_id(&inner.db, tenant.as_str(), id)
        .await?
        .ok_or(DeviceconfigError::NoDevice)
}

/// The settings that a device should have.
pub(crate) async fn configured(
    inner: &Inner,
    tenant: &TenantId,
    id: &str,
) -> Result<Configuration, DeviceconfigError> {
    Ok(find(inner, tenant, id).await?.configured)
}

/// Everything about a device's settings.
pub(crate) async fn show(
    inner: &Inner,
    tenant: &TenantId,
    id: &str,
) -> Result<DeviceConfiguration, DeviceconfigError> {
    let row = find(inner, tenant, id).await?;
    Ok(DeviceConfiguration {
        id: id.to_owned(),
        configured: row.configured,
        reported: row.reported,
        deployment_id: row.deployment_id,
        updated_ts: rfc3339(row.updated_ms),
        reported_ts: row.reported_ms.map(rfc3339),
    })
}

fn check_id(id: &str) -> Result<(), DeviceconfigError> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(DeviceconfigError::Invalid(
            "invalid request body: device_id: cannot be blank.".to_owned(),
        ));
    }
    Ok(())
}

/// Makes a device known. The web interface keeps a default for new devices in the tenant's settings and applies it itself.
pub(crate) async fn provision(
    inner: &Inner,
    tenant: &TenantId,
    id: &str,
) -> Result<(), DeviceconfigError> {
    check_id(id)?;
    let nothing = Configuration::new();
    let row = device::insert(tenant.as_str(), id, &nothing, inner.clock.now_ms());
    match inner.db.apply(vec![row]).await {
        Ok(_) => Ok(()),
        Err(DbError::UniqueViolation { .. }) => Err(DeviceconfigError::Exists),
        Err(error) => Err(error.into()),
    }
}

/// Forgets a device.
pub(crate) async fn decommission(
    inner: &Inner,
    tenant: &TenantId,
    id: &str,
) -> Result<(), DeviceconfigError> {
    let touched = inner
        .db
        .apply(vec![device::delete(tenant.as_str(), id)])
        .await?;
    if touched.first() == Some(&0) {
        return Err(DeviceconfigError::NoDevice);
    }
    Ok(())
}

/// Forgets a tenant.
pub(crate) async fn delete_tenant(
    inner: &Inner,
    tenant: &TenantId,
) -> Result<(), DeviceconfigError> {
    let batch = vec![device::delete_tenant(tenant.as_str())];
    inner.db.apply(batch).await?;
    Ok(())
}

/// What the device says it is set to.
pub(crate) async fn report(
    inner: &Inner,
    tenant: &TenantId,
    id: &str,
    reported: &Configuration,
) -> Result<(), DeviceconfigError> {
    let row = device::report(tenant.as_str(), id, reported, inner.clock.now_ms());
    inner.db.apply(vec![row]).await?;
    Ok(())
}

/// What an operator wants the device to be set to, as a whole.
pub(crate) async fn configure(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
    wanted: &Configuration,
) -> Result<(), DeviceconfigError> {
    check_id(id)?;
    let tenant = user.tenant.as_str();
    let batch = vec![
        device::configure(tenant, id, wanted, inner.clock.now_ms()),
        audit(inner, user, id, "set_configuration", wanted),
    ];
    inner.db.apply(batch).await?;
    inner.jobs.wake();
    Ok(())
}

/// Changes some settings and leaves the others.
pub(crate) async fn merge(
    inner: &Inner,
    tenant: &TenantId,
    id: &str,
    changes: Configuration,
) -> Result<(), DeviceconfigError> {
    check_id(id)?;
    for _ in 0..ATTEMPTS_MAX {
        let (now_ms, tenant) = (inner.clock.now_ms(), tenant.as_str());
        let statement = match device::by_id(&inner.db, tenant, id).await? {
            Some(row) => {
                let mut merged = row.configured.clone();
                merged.extend(changes.clone());
                // Together they must still be a configuration.
                let members = merged
                    .into_iter()
                    .map(|(key, value)| (key, Value::String(value)));
                let merged = configuration::parse(members.collect())?;
                device::reconfigure(tenant, id, &row.configured, &merged, now_ms)
            }
            None => device::insert(tenant, id, &changes, now_ms),
        };
        match inner.db.apply(vec![statement]).await {
            Ok(_) => return Ok(()),
            Err(DbError::Conflict { .. } | DbError::UniqueViolation { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(DeviceconfigError::Contended)
}

/// Who asks for a deployment: a user, or a part of the server.
pub(crate) struct Asker<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) user: Option<&'a UserIdentity>,
}

/// Deploys the wanted settings to the device; returns the deployment's id.
pub(crate) async fn deploy(
    inner: &Inner,
    asker: Asker<'_>,
    id: &str,
    how: NewConfigurationDeployment,
) -> Result<String, DeviceconfigError> {
    let control = how.update_control_map.filter(|map| !map.is_empty());
    if let Some(user) = asker.user
        && control.is_some()
        && user.plan != PLAN_OF_CONTROL
        && !user.tenant.as_str().is_empty()
    {
        return Err(DeviceconfigError::Forbidden(
            "forbidden: update control map is available only for Enterprise customers",
        ));
    }
    if how.retries > RETRIES_MAX {
        return Err(DeviceconfigError::Invalid(format!(
            "malformed request body: retries: must be no greater than {RETRIES_MAX}"
        )));
    }
    let tenant = asker.tenant;
    let row = find(inner, tenant, id).await?;
    let deployment_id = new_id().to_string();
    let mut input = Map::from_iter([
        ("tenant_id".to_owned(), json!(tenant.as_str())),
        ("request_id".to_owned(), json!(current_request_id())),
        ("device_id".to_owned(), json!(id)),
        ("deployment_id".to_owned(), json!(deployment_id)),
        ("configuration".to_owned(), json!(row.configured)),
        ("retries".to_owned(), json!(how.retries)),
    ]);
    if let Some(control) = control {
        input.insert("update_control_map".to_owned(), Value::Object(control));
    }
    let workflow = "deploy_device_configuration";
    let (start, job) = inner.ports.workflows.start(tenant, workflow, input);
    let mut batch = vec![device::deployed(tenant.as_str(), id, &deployment_id), start];
    if let Some(user) = asker.user {
        batch.push(audit(
            inner,
            user,
            id,
            "deploy_configuration",
            &row.configured,
        ));
    }
    inner.db.apply(batch).await.map_err(|error| match error {
        DbError::Conflict { .. } => DeviceconfigError::NoDevice,
        error => error.into(),
    })?;
    inner.jobs.wake();
    inner.ports.workflows.settle(tenant, &job).await;
    Ok(deployment_id)
}

fn audit(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
    action: &str,
    configuration: &Configuration,
) -> Statement {
    // A map of texts always serialises.
    let change = serde_json::to_string(configuration).unwrap_or_default();
    let event = Event::new(
        Actor::user(&user.user_id),
        rfc3339(inner.clock.now_ms()),
        action,
        Object::device(id, None),
    )
    .change(change);
    ambidex_jobs::audit(&inner.jobs, user.tenant.as_str(), &event)
}
