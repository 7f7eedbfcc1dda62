//! What the audit log learns of sessions.

use ambidex_db::{DbError, Statement};
use ambidex_kit::rfc3339;
use ambidex_wire::management::auditlogs::{Actor, Event, Object};

use crate::Inner;

pub(crate) const OPEN_TERMINAL: &str = "open_terminal";
pub(crate) const CLOSE_TERMINAL: &str = "close_terminal";
pub(crate) const OPEN_PORTFORWARD: &str = "open_portforward";
pub(crate) const CLOSE_PORTFORWARD: &str = "close_portforward";
pub(crate) const DOWNLOAD_FILE: &str = "download_file";
pub(crate) const UPLOAD_FILE: &str = "upload_file";

fn event(action: &str, user: &str, device: &str, now_ms: i64) -> Event {
    Event::new(
        Actor::user(user),
        rfc3339(now_ms),
        action,
        Object::device(device, None),
    )
}

/// A shell, or the port forwards of a session, begin or end.
pub(crate) fn terminal(
    action: &str,
    user: &str,
    device: &str,
    session: &str,
    now_ms: i64,
) -> Event {
    event(action, user, device, now_ms).meta("session_id", session)
}

/// A file is copied.
pub(crate) fn file(
    action: &str,
    user: &str,
    device: &str,
    session: &str,
    path: &str,
    now_ms: i64,
) -> Event {
    event(action, user, device, now_ms)
        .meta("path", path)
        .meta("session_id", session)
}

/// For the batch of the change itself.
pub(crate) fn statement(inner: &Inner, tenant: &str, event: &Event) -> Statement {
    ambidex_jobs::audit(&inner.jobs, tenant, event)
}

/// For an event without a change of ours.
pub(crate) async fn record(inner: &Inner, tenant: &str, event: &Event) -> Result<(), DbError> {
    inner
        .db
        .apply(vec![statement(inner, tenant, event)])
        .await?;
    inner.jobs.wake();
    Ok(())
}
