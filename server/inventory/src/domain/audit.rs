//! What the audit log is told of users' changes.
//!
//! Each statement goes into the batch of the change itself, so that the log tells of a change exactly if it happened.
//! What devices and other parts of the server do is not recorded.

use ambidex_access::UserIdentity;
use ambidex_db::Statement;
use ambidex_kit::rfc3339;
use ambidex_wire::management::auditlogs::{Actor, Event, Object};
use serde_json::Value;

use super::scope::Scope;
use crate::Inventory;
use crate::store::device::DeviceRow;

/// Who asked for a change; `None` for what is not recorded.
pub type By<'a> = Option<&'a UserIdentity>;

pub(super) const CREATE: &str = "create";
pub(super) const UPDATE: &str = "update";
pub(super) const DELETE: &str = "delete";

/// A device, as the object of an event; the audit log knows who it is.
pub(super) fn device(id: &str) -> Object {
    Object::device(id, None)
}

/// A static group.
pub(super) fn group(name: &str) -> Object {
    Object::other("group", name)
}

/// A saved filter.
pub(super) fn filter(id: &str) -> Object {
    Object::other("filter", id)
}

/// What an edit did to the documents of a device: a unified diff of those that changed.
pub(super) fn difference(before: &DeviceRow, after: &DeviceRow) -> String {
    let changed = |row: &DeviceRow| {
        let scopes = Scope::ALL
            .into_iter()
            .filter(|scope| before.documents[scope.index()] != after.documents[scope.index()]);
        scopes
            .map(|scope| {
                let text = &row.documents[scope.index()];
                let document = serde_json::from_str(text).unwrap_or(Value::Null);
                (scope.as_str().to_owned(), document)
            })
            .collect::<Value>()
    };
    format!(
        "Updated attributes:\n{}",
        ambidex_jobs::diff(&changed(before), &changed(after))
    )
}

impl Inventory {
    /// The statement that records what was done to something.
    pub(super) fn note(
        &self,
        by: By<'_>,
        action: &str,
        object: Object,
        change: impl Into<String>,
    ) -> Option<Statement> {
        let user = by?;
        let event = Event::new(
            Actor::user(user.user_id.as_str()),
            rfc3339(self.inner.clock.now_ms()),
            action,
            object,
        )
        .change(change);
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
