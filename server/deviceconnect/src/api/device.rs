//! `/api/devices/v1/deviceconnect`.

use ambidex_access::DeviceAuth;
use ambidex_kit::ApiError;
use ambidex_wire::session::{DEVICE_MESSAGE_BYTES_MAX, MESSAGE_BYTES_HEADER, MESSAGE_BYTES_MAX};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;

use super::upgrade::{DEVICE_READ_BYTES, Upgrade};
use crate::Deviceconnect;
use crate::domain::{admission, device_side};

pub(crate) fn routes(deviceconnect: Deviceconnect) -> Router {
    Router::new()
        .route("/api/devices/v1/deviceconnect/connect", get(connect))
        .with_state(deviceconnect)
}

/// Connect the device and make it available to the server.
async fn connect(
    DeviceAuth(device): DeviceAuth,
    State(deviceconnect): State<Deviceconnect>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    admission::troubleshoot(&deviceconnect.0, &device.tenant).await?;
    let ready = upgrade.ready()?;
    let reads = reads_bytes(&headers);
    Ok(ready.open(
        DEVICE_READ_BYTES,
        MESSAGE_BYTES_MAX,
        move |socket, held| async move {
            let inner = &deviceconnect.0;
            device_side::serve(inner, &device, reads, socket, held).await;
        },
    ))
}

/// Largest message that the device reads: what it says, or what the reference's device reads.
fn reads_bytes(headers: &HeaderMap) -> usize {
    headers
        .get(MESSAGE_BYTES_HEADER)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or_default()
        .clamp(DEVICE_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX)
}
