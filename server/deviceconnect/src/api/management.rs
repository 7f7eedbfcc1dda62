//! `/api/management/v1/deviceconnect/devices`, in the order of the specification, newer ones after it.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json, rfc3339};
use ambidex_wire::management::deviceconnect as wire;
use ambidex_wire::session::{MESSAGE_BYTES_HEADER, client};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use http::{HeaderName, HeaderValue, StatusCode};

use super::transfer;
use super::upgrade::{USER_READ_BYTES, Upgrade};
use crate::domain::{admission, command, presence, session, user_side};
use crate::{Deviceconnect, DeviceconnectError};

/// Largest message of a user: a text pasted into a terminal, which is passed on in pieces.
const USER_MESSAGE_BYTES_MAX: usize = 8 << 20;
const MESSAGE_BYTES: HeaderName = HeaderName::from_static(MESSAGE_BYTES_HEADER);

pub(crate) fn routes(deviceconnect: Deviceconnect) -> Router {
    const BASE: &str = "/api/management/v1/deviceconnect/devices/{id}";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path(""), get(get_device))
        .route(&path("/connect"), get(connect))
        .route(&path("/check-update"), post(check_update))
        .route(&path("/send-inventory"), post(send_inventory))
        .route(
            &path("/download"),
            get(transfer::download_file).head(transfer::stat_file),
        )
        .route(
            &path("/upload"),
            put(transfer::upload_file).layer(DefaultBodyLimit::disable()),
        )
        .with_state(deviceconnect)
}

/// Fetch the state of a device.
async fn get_device(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
) -> Result<Json<wire::DeviceState>, ApiError> {
    let state = presence::state(&deviceconnect.0, &user.tenant, &id).await?;
    let state = state.ok_or_else(|| ApiError::not_found("device not found"))?;
    Ok(Json(wire::DeviceState {
        device_id: id,
        status: state.status.name().to_owned(),
        created_ts: rfc3339(state.created_ms),
        updated_ts: rfc3339(state.updated_ms),
        last_seen_ts: state.seen_ms.map(rfc3339),
    }))
}

/// Establish permanent connection with device
async fn connect(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let inner = &deviceconnect.0;
    // Unlike for other operations, 409 is none of the documented answers here.
    let offline = |error| match error {
        DeviceconnectError::NotConnected => ApiError::not_found("device not connected"),
        other => other.into(),
    };
    let admitted = admission::connected_device(inner, &user, &id).await;
    admitted.map_err(offline)?;
    let ready = upgrade.ready()?;
    let opened = session::open(inner, &user.tenant, &id, &user.user_id).await;
    let session = opened.map_err(offline)?;
    let reads = HeaderValue::from(session.0.message_bytes_max);
    let mut response = ready.open(
        USER_READ_BYTES,
        USER_MESSAGE_BYTES_MAX,
        move |socket, held| async move {
            user_side::serve(&deviceconnect.0, &user, &id, session, socket, held).await;
        },
    );
    response.headers_mut().insert(MESSAGE_BYTES, reads);
    Ok(response)
}

/// Ask the device to check for an update now.
async fn check_update(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    command(&deviceconnect, &user, &id, client::CHECK_UPDATE).await
}

/// Ask the device to send its inventory now.
async fn send_inventory(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    command(&deviceconnect, &user, &id, client::SEND_INVENTORY).await
}

async fn command(
    deviceconnect: &Deviceconnect,
    user: &ambidex_access::UserIdentity,
    id: &str,
    typ: &str,
) -> Result<Response, ApiError> {
    let inner = &deviceconnect.0;
    admission::connected_device(inner, user, id).await?;
    command::send(inner, &user.tenant, id, Some(&user.user_id), typ).await?;
    Ok((StatusCode::ACCEPTED, Json(())).into_response())
}
