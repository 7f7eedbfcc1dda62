//! Who may talk to a device.

use ambidex_access::{TenantId, UserIdentity};

use super::presence::{self, State, Status};
use crate::{DeviceconnectError, Inner};

const NO_ADDON: DeviceconnectError =
    DeviceconnectError::Forbidden("operation requires addon: troubleshoot");
const NO_DEVICE: DeviceconnectError = DeviceconnectError::NotFound("device not found");

/// Demands that the tenant has remote access.
pub(crate) async fn troubleshoot(
    inner: &Inner,
    tenant: &TenantId,
) -> Result<(), DeviceconnectError> {
    if inner.neighbours.may_troubleshoot(tenant).await? {
        Ok(())
    } else {
        Err(NO_ADDON)
    }
}

/// Demands that a user may talk to a device, connected or not.
pub(crate) async fn device(
    inner: &Inner,
    user: &UserIdentity,
    device: &str,
) -> Result<State, DeviceconnectError> {
    troubleshoot(inner, &user.tenant).await?;
    let state = presence::state(inner, &user.tenant, device).await?;
    let state = state.ok_or(NO_DEVICE)?;
    granted(inner, user, device).await?;
    Ok(state)
}

/// Demands that the device is connected, besides.
pub(crate) async fn connected_device(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
) -> Result<(), DeviceconnectError> {
    match device(inner, user, id).await?.status {
        Status::Connected => Ok(()),
        Status::Disconnected | Status::Unknown => Err(DeviceconnectError::NotConnected),
    }
}

/// Demands that the roles of a user leave the device to connect to.
pub(crate) async fn granted(
    inner: &Inner,
    user: &UserIdentity,
    device: &str,
) -> Result<(), DeviceconnectError> {
    // Most users have no limit: no need to ask for the group then.
    if user.grants.may_connect_to(device, None) {
        return Ok(());
    }
    let group = inner.neighbours.group(&user.tenant, device).await?;
    if user.grants.may_connect_to(device, group.as_deref()) {
        Ok(())
    } else {
        Err(DeviceconnectError::Forbidden("Access denied (RBAC)."))
    }
}
