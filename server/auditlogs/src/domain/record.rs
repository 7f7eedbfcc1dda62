//! Putting events on record and taking them off again.

use ambidex_kit::rfc3339;
use ambidex_wire::management::auditlogs::{Actor, DeviceObject, Event};

use crate::{AuditlogsError, Inner, store};

/// Ids, types, actions and login names, in bytes.
const WORD_BYTES_MAX: usize = 4096;
/// Events that one statement of the sweep deletes: a short turn at the writer.
const SWEEP_EVENTS: u64 = 500;

/// Refuses what is not an event (reference: internal `POST /logs`) and returns its time.
pub(crate) fn check(event: &Event) -> Result<i64, AuditlogsError> {
    let invalid = |text: String| AuditlogsError::Invalid(text);
    for (name, value) in [
        ("actor.id", &event.actor.id),
        ("actor.type", &event.actor.kind),
        ("action", &event.action),
        ("object.id", &event.object.id),
        ("object.type", &event.object.kind),
    ] {
        if value.is_empty() {
            return Err(invalid(format!("{name}: cannot be blank.")));
        }
        if value.len() > WORD_BYTES_MAX {
            return Err(invalid(format!(
                "{name}: the length must be no more than {WORD_BYTES_MAX}."
            )));
        }
    }
    match event.actor.kind.as_str() {
        Actor::USER if event.actor.identity_data.is_some() => Err(invalid(
            "actor.identity_data: must be blank for users.".to_owned(),
        )),
        Actor::DEVICE if event.actor.email.is_some() => Err(invalid(
            "actor.email: must be blank for devices.".to_owned(),
        )),
        Actor::USER | Actor::DEVICE => event
            .time
            .parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_millisecond)
            .map_err(|_| invalid("time: must be an RFC 3339 time.".to_owned())),
        _ => Err(invalid("actor.type: must be a valid value.".to_owned())),
    }
}

/// Puts an event on record under `id`; again under the same id changes nothing.
pub(crate) async fn record(
    inner: &Inner,
    tenant: &str,
    id: &str,
    mut event: Event,
) -> Result<(), AuditlogsError> {
    let time_ms = check(&event)?;
    event.time = rfc3339(time_ms);
    complete(inner, tenant, &mut event).await?;
    let insert = store::event::insert(tenant, id, time_ms, &event)
        .map_err(|error| AuditlogsError::Invalid(error.to_string()))?;
    inner.db.apply(vec![insert]).await?;
    Ok(())
}

/// Fills in what the service that made the event did not know: names of those who took part.
async fn complete(inner: &Inner, tenant: &str, event: &mut Event) -> Result<(), AuditlogsError> {
    let actor = &mut event.actor;
    if actor.kind == Actor::USER && actor.email.is_none() {
        actor.email = match inner.directory.user_email(tenant, &actor.id).await? {
            Some(email) => Some(email),
            // Deleted since: the log itself may know.
            None => store::event::last_email(&inner.db, tenant, &actor.id).await?,
        };
    }
    if actor.kind == Actor::DEVICE && actor.identity_data.is_none() {
        actor.identity_data = inner.directory.device_identity(tenant, &actor.id).await?;
    }
    let object = &mut event.object;
    if object.kind == "device" && object.device.is_none() {
        object.device = inner
            .directory
            .device_identity(tenant, &object.id)
            .await?
            .map(|identity_data| DeviceObject { identity_data });
    }
    Ok(())
}

/// Takes events off the record that are older than the retention; returns their number.
pub(crate) async fn sweep(inner: &Inner) -> Result<u64, AuditlogsError> {
    let before_ms = inner.clock.now_ms() - inner.settings.retention_s.saturating_mul(1000);
    let mut gone = 0;
    loop {
        let counts = inner
            .db
            .apply(vec![store::event::sweep(before_ms, SWEEP_EVENTS)])
            .await?;
        let deleted = counts.first().copied().unwrap_or(0);
        gone += deleted;
        if deleted < SWEEP_EVENTS {
            return Ok(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambidex_wire::management::auditlogs::Object;

    fn event() -> Event {
        Event::new(
            Actor::user("u"),
            "2021-02-01T10:00:00.123456+01:00",
            "create",
            Object::user("v", "v@example.com"),
        )
    }

    #[test]
    fn times_of_any_zone_become_milliseconds() {
        assert_eq!(check(&event()).ok(), Some(1_612_170_000_123));
    }

    #[test]
    fn what_is_missing_is_named() {
        type Spoil = fn(&mut Event);
        let cases: [(Spoil, &str); 9] = [
            (|e| e.actor.id.clear(), "actor.id: cannot be blank."),
            (|e| e.actor.kind.clear(), "actor.type: cannot be blank."),
            (
                |e| "robot".clone_into(&mut e.actor.kind),
                "actor.type: must be a valid value.",
            ),
            (|e| e.action.clear(), "action: cannot be blank."),
            (|e| e.object.id.clear(), "object.id: cannot be blank."),
            (|e| e.object.kind.clear(), "object.type: cannot be blank."),
            (|e| e.time.clear(), "time: must be an RFC 3339 time."),
            (
                |e| e.actor.identity_data = Some("{}".to_owned()),
                "actor.identity_data: must be blank for users.",
            ),
            (
                |e| {
                    e.actor = Actor::device("d", None);
                    e.actor.email = Some("d@example.com".to_owned());
                },
                "actor.email: must be blank for devices.",
            ),
        ];
        for (spoil, text) in cases {
            let mut event = event();
            spoil(&mut event);
            let refused = check(&event).map_err(|error| error.to_string());
            assert_eq!(refused, Err(text.to_owned()));
        }
    }
}
