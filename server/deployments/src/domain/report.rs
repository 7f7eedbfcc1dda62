//! A device tells how far it is.

use ambidex_access::TenantId;
use ambidex_wire::deployments::{DeviceStatus, LogMessage, StatusReport};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::deployment::Counts;
use super::device::{self, Reaction, State};
use crate::Context;
use crate::error::Error;
use crate::store;
use crate::store::deployment::{Guard, Shift};
use crate::store::device::Reported;

/// As for polls: each lost race means that another report of the same device came first.
const RACES_MAX: usize = 64;

/// Takes a status report.
///
/// # Errors
/// 400 for a substate that is too long, 404 when the device has no part in the deployment, 409 when the
/// deployment was aborted or the device decommissioned.
pub async fn status(
    context: &Context,
    tenant: &TenantId,
    device_id: &str,
    deployment_id: &str,
    report: &StatusReport,
) -> Result<(), Error> {
    device::check_substate(report.substate.as_deref())?;
    for _ in 0..RACES_MAX {
        let found = store::device::find(&context.db, tenant, deployment_id, device_id)
            .await?
            .ok_or(Error::RESOURCE_NOT_FOUND)?;
        let standing = found.standing;
        let (to, attempts, offered) = match device::on_report(&standing, report.status)? {
            Reaction::Repeat => return Ok(()),
            Reaction::Become { status, attempts } => (status, attempts, true),
            Reaction::TryAgain { attempts } => (DeviceStatus::Pending, attempts, false),
        };
        let now_ms = context.clock.now_ms();
        let reported = Reported {
            from: standing.status,
            to,
            attempts,
            offered,
            substate: report.substate.as_deref(),
            now_ms,
        };
        let shift = Shift {
            counts: Counts::moved(standing.status, to),
            ..Shift::default()
        };
        let guard = match standing.state {
            State::Active => Guard::NotAborted,
            _ => Guard::None,
        };
        let outcome = context
            .db
            .apply(vec![
                store::device::report(tenant, found.number, device_id, &reported),
                store::deployment::shift(tenant, found.number, shift, guard),
                store::deployment::settle(tenant, found.number, now_ms),
            ])
            .await
            .map_err(Error::from);
        match outcome {
            Err(error) if error.is_lost_race() => {}
            outcome => return outcome.map(|_| ()),
        }
    }
    Err(Error::Internal(format!(
        "status report lost {RACES_MAX} races in a row"
    )))
}

/// Takes a log; a later one replaces it.
///
/// # Errors
/// 400 for a log without messages or a message with a wrong time, 404 when the device has no part in
/// the deployment.
pub async fn log(
    context: &Context,
    tenant: &TenantId,
    device_id: &str,
    deployment_id: &str,
    messages: &[LogMessage],
) -> Result<(), Error> {
    if messages.is_empty() {
        return Err(Error::invalid("messages: cannot be blank."));
    }
    for (index, message) in messages.iter().enumerate() {
        if message.level.is_empty() {
            return Err(Error::invalid(format!(
                "messages: ({index}: (level: cannot be blank.).)."
            )));
        }
        if message.timestamp.parse::<Timestamp>().is_err() {
            return Err(Error::invalid(format!(
                "messages: ({index}: (timestamp: '{}' is no RFC 3339 time.).).",
                message.timestamp.chars().take(64).collect::<String>()
            )));
        }
    }
    const NOT_FOUND: Error = Error::NotFound("Deployment not found");
    let found = store::device::find(&context.db, tenant, deployment_id, device_id)
        .await?
        .filter(|found| matches!(found.standing.state, State::Active | State::Done))
        .ok_or(NOT_FOUND)?;
    match store::log::save(&context.db, tenant, found.number, device_id, messages).await {
        Err(error) if error.is_lost_race() => Err(NOT_FOUND),
        outcome => outcome,
    }
}

/// A log as text, a line a message: `2006-01-02 15:04:05.999 +0000 UTC LEVEL: MESSAGE`.
pub fn log_text(messages: &[LogMessage]) -> String {
    let mut text = String::new();
    for message in messages {
        let time = message
            .timestamp
            .parse::<Timestamp>()
            .map(|at| {
                let at = at.to_zoned(TimeZone::UTC);
                let seconds = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
                match at.millisecond() {
                    0 => seconds,
                    ms => format!("{seconds}.{}", format!("{ms:03}").trim_end_matches('0')),
                }
            })
            .unwrap_or_default();
        text.push_str(&format!(
            "{time} +0000 UTC {}: {}\n",
            message.level, message.message
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_in_utc_with_milliseconds_only_if_any() {
        let message = |timestamp: &str| LogMessage {
            timestamp: timestamp.to_owned(),
            level: "INFO".to_owned(),
            message: "OK".to_owned(),
        };
        let text = log_text(&[
            message("2016-03-11T13:03:17.063493443Z"),
            message("2016-03-11T14:03:17+01:00"),
            message("2016-03-11T13:03:17.5Z"),
        ]);
        assert_eq!(
            text,
            "2016-03-11 13:03:17.063 +0000 UTC INFO: OK\n\
             2016-03-11 13:03:17 +0000 UTC INFO: OK\n\
             2016-03-11 13:03:17.5 +0000 UTC INFO: OK\n"
        );
    }
}
