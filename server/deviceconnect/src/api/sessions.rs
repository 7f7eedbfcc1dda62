//! `/api/management/v1/deviceconnect/sessions`: recorded shells. The playback is the reference's; the
//! list, one session and the export are ours.

use std::time::Duration;

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, link_headers, rfc3339, total_count};
use ambidex_wire::management::deviceconnect as wire;
use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::upgrade::{DEVICE_READ_BYTES, Upgrade};
use crate::domain::cast::Cast;
use crate::domain::recording::Player;
use crate::domain::{admission, playback};
use crate::store::session::{self, Session};
use crate::{Deviceconnect, DeviceconnectError};

/// Messages from a client that only watches.
const WATCHER_MESSAGE_BYTES_MAX: usize = 4096;
/// Longest pause between the messages of a playback that can be asked for.
const PACE_MS_MAX: u64 = 1000;

pub(crate) fn routes(deviceconnect: Deviceconnect) -> Router {
    const BASE: &str = "/api/management/v1/deviceconnect/sessions";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path(""), get(list_sessions))
        .route(&path("/{id}"), get(get_session))
        .route(&path("/{id}/playback"), get(playback))
        .route(&path("/{id}/export"), get(export_session))
        .with_state(deviceconnect)
}

fn view(session: Session) -> wire::Session {
    wire::Session {
        id: session.session_id,
        device_id: session.device_id,
        user_id: session.user_id,
        started_ts: rfc3339(session.started_ms),
        ended_ts: session.ended_ms.map(rfc3339),
        terminal_width: session.width,
        terminal_height: session.height,
        output_bytes: u64::try_from(session.output_bytes).unwrap_or_default(),
    }
}

/// List recorded terminal sessions, newest first
async fn list_sessions(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    OriginalUri(uri): OriginalUri,
    page: Page,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let inner = &deviceconnect.0;
    admission::troubleshoot(inner, &user.tenant).await?;
    let device = query.first("device_id").unwrap_or_default();
    let of_user = query.first("user_id").unwrap_or_default();
    // A user whose roles leave only some devices names one of them; which ones there are is not told.
    if user.grants.terminal_groups.is_some() {
        if device.is_empty() {
            return Err(ApiError::forbidden("Access denied (RBAC)."));
        }
        admission::granted(inner, &user, device).await?;
    }
    let tenant = user.tenant.as_str();
    let total = session::count(&inner.db, tenant, device, of_user).await?;
    let (limit, offset) = (page.per_page, page.offset());
    let found = session::list(&inner.db, tenant, device, of_user, limit, offset).await?;
    let has_next = offset + (found.len() as u64) < total;
    let list: Vec<wire::Session> = found.into_iter().map(view).collect();
    let mut response = Json(list).into_response();
    let headers = response.headers_mut();
    headers.extend(link_headers(&uri, &page, has_next, None));
    headers.extend(total_count(total));
    Ok(response)
}

/// The session, if the user may see it.
async fn seen(
    deviceconnect: &Deviceconnect,
    user: &UserIdentity,
    id: &str,
) -> Result<Session, DeviceconnectError> {
    let inner = &deviceconnect.0;
    admission::troubleshoot(inner, &user.tenant).await?;
    let session = session::get(&inner.db, user.tenant.as_str(), id).await?;
    let session = session.ok_or(DeviceconnectError::NotFound("session not found"))?;
    admission::granted(inner, user, &session.device_id).await?;
    Ok(session)
}

/// Get a recorded terminal session
async fn get_session(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
) -> Result<Json<wire::Session>, ApiError> {
    Ok(Json(view(seen(&deviceconnect, &user, &id).await?)))
}

/// Playback of a recorded terminal session
async fn playback(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
    query: QueryPairs,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let session = seen(&deviceconnect, &user, &id).await?;
    let pace_ms = match query.first("sleep_ms") {
        None => 0,
        Some(text) => text
            .parse::<u64>()
            .ok()
            .filter(|ms| *ms <= PACE_MS_MAX)
            .ok_or_else(|| {
                ApiError::bad_request(format!("sleep_ms: must be from 0 to {PACE_MS_MAX}"))
            })?,
    };
    let ready = upgrade.ready()?;
    let player = Player::new(deviceconnect.0.db.clone(), user.tenant.as_str(), &id);
    let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let size = (side(session.width), side(session.height));
    let pace = Duration::from_millis(pace_ms);
    Ok(ready.open(
        DEVICE_READ_BYTES,
        WATCHER_MESSAGE_BYTES_MAX,
        move |socket, held| async move {
            playback::serve(&deviceconnect.0, player, &id, size, pace, socket, held).await;
        },
    ))
}

/// Export a recorded terminal session as asciicast v2
async fn export_session(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let session = seen(&deviceconnect, &user, &id).await?;
    let player = Player::new(deviceconnect.0.db.clone(), user.tenant.as_str(), &id);
    let head = Cast::head(&session);
    let pieces = stream::try_unfold(
        Some((player, Cast::new(), Some(head), 0_u64)),
        |state| async move {
            let Some((mut player, mut cast, head, mut last_ms)) = state else {
                return Ok::<_, ambidex_db::DbError>(None);
            };
            if let Some(head) = head {
                return Ok(Some((head, Some((player, cast, None, last_ms)))));
            }
            let events = player.next().await?;
            if events.is_empty() {
                return Ok(Some((cast.tail(last_ms), None)));
            }
            let mut lines = String::new();
            for event in &events {
                lines.push_str(&cast.line(event));
                last_ms = event.at_ms;
            }
            Ok(Some((lines, Some((player, cast, None, last_ms)))))
        },
    );
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-asciicast"),
    );
    let name = format!(
        "attachment; filename=\"session-{}.cast\"",
        session.session_id
    );
    headers.insert(
        CONTENT_DISPOSITION,
        HeaderValue::from_str(&name).map_err(ApiError::internal)?,
    );
    Ok(response)
}
