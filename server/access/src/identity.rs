//! Who a verified token speaks for.

use uuid::Uuid;

/// The tenant that a row or a request belongs to. Empty on a server without tenants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct TenantId(String);

impl TenantId {
    /// Takes an id as it is.
    pub fn new(id: impl Into<String>) -> TenantId {
        TenantId(id.into())
    }

    /// The id as text, for statements.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` for the one tenant of a server without tenants.
    pub fn claim(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.clone())
    }
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device that showed a good token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// Device id.
    pub device_id: String,
    /// Its tenant.
    pub tenant: TenantId,
    /// Id of the token: the auth set.
    pub jti: Uuid,
    /// Plan named by the token.
    pub plan: String,
}

/// What the roles of a user leave of the tenant's fleet, in lists of names; `None` means everything. It is
/// what the reference sends upstream in its `X-MEN-RBAC-*` headers (reference: user administration 4.1).
///
/// The services that own the things enforce it: inventory the devices it shows, deployments the devices
/// they reach and the releases they show, the device connection its sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Groups whose devices may be seen and changed.
    pub inventory_groups: Option<Vec<String>>,
    /// Groups whose devices deployments may be created for.
    pub deployment_groups: Option<Vec<String>>,
    /// Groups whose devices may be connected to.
    pub terminal_groups: Option<Vec<String>>,
    /// Tags of the releases that may be seen.
    pub release_tags: Option<Vec<String>>,
}

impl Grants {
    /// No limit: the grants of a user with full access.
    pub fn everything() -> Grants {
        Grants::default()
    }
}

/// A user who showed a good token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// User id.
    pub user_id: String,
    /// The user's tenant.
    pub tenant: TenantId,
    /// Id of the token.
    pub jti: Uuid,
    /// Plan named by the token.
    pub plan: String,
    /// What the user's roles leave of the fleet; filled by the [`TokenCheck`](crate::TokenCheck), everything
    /// before it.
    pub grants: Grants,
}

/// Either of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A device.
    Device(DeviceIdentity),
    /// A user.
    User(UserIdentity),
}
