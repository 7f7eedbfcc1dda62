//! What the audit log is told of users' changes.
//!
//! Each statement goes into the batch of the change itself, so that the log tells of a change exactly if it happened.
//! What devices and other parts of the server do is not recorded.

use ambidex_access::UserIdentity;
use ambidex_db::Statement;
use ambidex_kit::rfc3339;
use ambidex_wire::management::auditlogs::{Actor, Event, Object};

use crate::Devauth;

use super::status::SetStatus;

/// Who asked for a change; `None` for what is not recorded.
pub type By<'a> = Option<&'a UserIdentity>;

pub(super) const DECOMMISSION: &str = "decommission";
pub(super) const PREAUTHORIZE: &str = "preauthorize";
pub(super) const UPDATE: &str = "update";
pub(super) const REVOKE: &str = "revoke_token";

/// The action and text of a decision about one set.
pub(super) fn decision(set_id: &str, to: SetStatus) -> (&'static str, String) {
    let action = match to {
        SetStatus::Accepted => "accept",
        SetStatus::Rejected => "reject",
        SetStatus::Pending | SetStatus::Preauthorized => UPDATE,
    };
    let status = to.as_str();
    (action, format!("authentication set {set_id}: {status}"))
}

impl Devauth {
    /// The statement that records what was done to a device. `identity` is JSON text; the log fills it in when it is
    /// not known here.
    pub(super) fn note(
        &self,
        by: By<'_>,
        action: &str,
        device_id: &str,
        identity: Option<&str>,
        change: Option<String>,
    ) -> Option<Statement> {
        let user = by?;
        let event = Event {
            change,
            ..Event::new(
                Actor::user(user.user_id.as_str()),
                rfc3339(self.inner.clock.now_ms()),
                action,
                Object::device(device_id, identity.map(str::to_owned)),
            )
        };
        Some(ambidex_jobs::audit(
            &self.inner.jobs,
            user.tenant.as_str(),
            &event,
        ))
    }

    /// After the commit of what was noted.
    pub(super) fn noted(&self, by: By<'_>) {
        if by.is_some() {
            self.inner.jobs.wake();
        }
    }
}
