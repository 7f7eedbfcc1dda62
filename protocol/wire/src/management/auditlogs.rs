//! Bodies of the audit log (specification: management and internal audit logs).
//!
//! One event tells of one change that somebody made. The service that makes the change builds the event
//! with the constructors here and hands it on in the same atomic batch as the change itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What somebody did to something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who did it.
    pub actor: Actor,
    /// RFC 3339, UTC, at most milliseconds.
    pub time: String,
    /// `create`, `update`, `delete`, `abort`, `accept`, `open_terminal`, …
    pub action: String,
    /// To what it was done.
    pub object: Object,
    /// What changed, for humans: a sentence, or a unified diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Further facts, such as `session_id`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, Vec<String>>,
}

/// Who did something: a user or a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Id of the user or device.
    pub id: String,
    /// [`Actor::USER`] or [`Actor::DEVICE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Login name, users only. Left out by services that do not know it: the audit log fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Identity as JSON text, devices only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_data: Option<String>,
}

/// What something was done to. The member named like `kind` tells more about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its id.
    pub id: String,
    /// `user`, `deployment`, `device`, `artifact`, `tenant`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Only if `kind` is `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserObject>,
    /// Only if `kind` is `deployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentObject>,
    /// Only if `kind` is `device`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceObject>,
    /// Only if `kind` is `artifact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactObject>,
    /// Only if `kind` is `tenant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantObject>,
}

/// A user, as an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserObject {
    /// Login name at that time.
    pub email: String,
}

/// A deployment, as an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentObject {
    /// Its name.
    pub name: String,
    /// The artifact that it installs.
    pub artifact_name: String,
}

/// A device, as an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceObject {
    /// Identity as JSON text.
    pub identity_data: String,
}

/// An artifact, as an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactObject {
    /// Its name.
    pub name: String,
}

/// A tenant, as an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantObject {
    /// Its name.
    pub name: String,
}

impl Event {
    /// An event without `change` and `meta`. `time` is RFC 3339.
    pub fn new(
        actor: Actor,
        time: impl Into<String>,
        action: impl Into<String>,
        object: Object,
    ) -> Event {
        Event {
            actor,
            time: time.into(),
            action: action.into(),
            object,
            change: None,
            meta: BTreeMap::new(),
        }
    }

    /// Tells what changed.
    #[must_use]
    pub fn change(mut self, change: impl Into<String>) -> Event {
        self.change = Some(change.into());
        self
    }

    /// Adds a further fact.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Event {
        self.meta.entry(key.into()).or_default().push(value.into());
        self
    }
}

impl Actor {
    /// `kind` of users.
    pub const USER: &'static str = "user";
    /// `kind` of devices.
    pub const DEVICE: &'static str = "device";

    /// A user of whom the caller knows the id only.
    pub fn user(id: impl Into<String>) -> Actor {
        Actor {
            id: id.into(),
            kind: Actor::USER.to_owned(),
            email: None,
            identity_data: None,
        }
    }

    /// A user with his login name.
    pub fn user_with_email(id: impl Into<String>, email: impl Into<String>) -> Actor {
        Actor {
            email: Some(email.into()),
            ..Actor::user(id)
        }
    }

    /// A device. `identity_data` is JSON text.
    pub fn device(id: impl Into<String>, identity_data: Option<String>) -> Actor {
        Actor {
            id: id.into(),
            kind: Actor::DEVICE.to_owned(),
            email: None,
            identity_data,
        }
    }
}

impl Object {
    /// Anything that has nothing but its kind and id, such as a group.
    pub fn other(kind: impl Into<String>, id: impl Into<String>) -> Object {
        Object {
            id: id.into(),
            kind: kind.into(),
            user: None,
            deployment: None,
            device: None,
            artifact: None,
            tenant: None,
        }
    }

    /// A user.
    pub fn user(id: impl Into<String>, email: impl Into<String>) -> Object {
        Object {
            user: Some(UserObject {
                email: email.into(),
            }),
            ..Object::other("user", id)
        }
    }

    /// A deployment.
    pub fn deployment(
        id: impl Into<String>,
        name: impl Into<String>,
        artifact_name: impl Into<String>,
    ) -> Object {
        Object {
            deployment: Some(DeploymentObject {
                name: name.into(),
                artifact_name: artifact_name.into(),
            }),
            ..Object::other("deployment", id)
        }
    }

    /// A device. `identity_data` is JSON text, if known.
    pub fn device(id: impl Into<String>, identity_data: Option<String>) -> Object {
        Object {
            device: identity_data.map(|identity_data| DeviceObject { identity_data }),
            ..Object::other("device", id)
        }
    }

    /// An artifact.
    pub fn artifact(id: impl Into<String>, name: impl Into<String>) -> Object {
        Object {
            artifact: Some(ArtifactObject { name: name.into() }),
            ..Object::other("artifact", id)
        }
    }

    /// A tenant.
    pub fn tenant(id: impl Into<String>, name: impl Into<String>) -> Object {
        Object {
            tenant: Some(TenantObject { name: name.into() }),
            ..Object::other("tenant", id)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn absent_members_stay_absent() {
        let event = Event::new(
            Actor::user_with_email("u1", "a@example.com"),
            "2021-02-01T10:00:00.12Z",
            "create",
            Object::deployment("d1", "production", "app-1"),
        );
        let json = r#"{"actor":{"id":"u1","type":"user","email":"a@example.com"},"time":"2021-02-01T10:00:00.12Z","action":"create","object":{"id":"d1","type":"deployment","deployment":{"name":"production","artifact_name":"app-1"}}}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), event);
    }

    #[test]
    fn facts_gather_under_their_key() {
        let event = Event::new(Actor::device("d", None), "t", "x", Object::other("y", "z"))
            .meta("session_id", "s1")
            .meta("session_id", "s2");
        assert_eq!(event.meta["session_id"], ["s1", "s2"]);
    }
}
