//! Messages to a device outside of any session, and the end of its connection.

use std::time::Duration;

use ambidex_access::TenantId;
use ambidex_bus::{Bus, BusError};
use ambidex_wire::session::{Message, PROTO_CLIENT, shell};
use bytes::Bytes;
use uuid::Uuid;

use super::envelope::{Envelope, Kind, device_subject};
use crate::{DeviceconnectError, Inner};

/// How long the device may take to take it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Tells the device's update client to do something now. Returns once the device has been told; what it
/// answers is dropped, as by the reference.
pub(crate) async fn send(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
    user: Option<&str>,
    typ: &str,
) -> Result<(), DeviceconnectError> {
    let sid = ambidex_kit::new_id().to_string();
    let mut message = Message::new(PROTO_CLIENT, typ, &sid);
    if let Some(user) = user {
        message = message.prop(shell::USER_ID, user);
    }
    let command = Envelope::encode(Kind::Command, Uuid::nil(), 0, &message.encode());
    let subject = device_subject(tenant, device);
    match inner.bus.request(&subject, command, TIMEOUT).await {
        Ok(_) => Ok(()),
        Err(BusError::NoResponders(_) | BusError::Timeout(_) | BusError::Subject(_)) => {
            Err(DeviceconnectError::NotConnected)
        }
        Err(error) => Err(error.into()),
    }
}

/// Closes the connection of a device, if there is one.
pub(crate) async fn kick(inner: &Inner, tenant: &TenantId, device: &str, reason: &str) {
    let kick = Envelope::encode(Kind::Kick, Uuid::nil(), 0, reason.as_bytes());
    tell(&inner.bus, tenant, device, kick).await;
}

/// Tells the connection of a device, in whatever instance it is, that tokens of the device were revoked. It
/// ends if its own is among them: one that was opened with a newer token stays.
pub async fn tokens_revoked(bus: &Bus, tenant: &TenantId, device: &str) {
    let check = Envelope::encode(Kind::Check, Uuid::nil(), 0, &[]);
    tell(bus, tenant, device, check).await;
}

async fn tell(bus: &Bus, tenant: &TenantId, device: &str, what: Bytes) {
    match bus.publish(&device_subject(tenant, device), what).await {
        Ok(()) | Err(BusError::NoResponders(_) | BusError::Subject(_)) => {}
        // The connection's own check of the token ends it later.
        Err(error) => tracing::warn!(%error, "a device was not told to disconnect"),
    }
}
