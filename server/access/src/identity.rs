//! Who a verified token speaks for.

use ambidex_kit::ApiError;
use uuid::Uuid;

use crate::Addon;

/// The tenant that a row or a request belongs to. Empty on a server without tenants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct TenantId(String);

impl TenantId {
    /// Takes an id as it is; in the paths of internal calls `default` stands for the one tenant of a server without
    /// tenants, where an empty segment would be lost.
    pub fn new(id: impl Into<String>) -> TenantId {
        let id = id.into();
        TenantId(if id == TenantId::DEFAULT_NAME {
            String::new()
        } else {
            id
        })
    }

    /// What internal paths call the one tenant of a server without tenants.
    pub const DEFAULT_NAME: &'static str = "default";

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

/// The add-ons that a token opens: those of the tenant that are switched on, or all of them on trial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenAddons(Open);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    All,
    Named(Vec<String>),
}

impl Default for Open {
    fn default() -> Open {
        Open::Named(Vec::new())
    }
}

impl OpenAddons {
    /// Every add-on.
    pub fn all() -> OpenAddons {
        OpenAddons(Open::All)
    }

    /// By what a token says.
    pub(crate) fn of_claims(addons: Option<Vec<Addon>>, trial: Option<bool>) -> OpenAddons {
        if trial == Some(true) {
            return OpenAddons::all();
        }
        let named = addons.into_iter().flatten();
        let open = named.filter(|addon| addon.enabled).map(|addon| addon.name);
        OpenAddons(Open::Named(open.collect()))
    }

    /// Call it first in the handler of an operation that belongs to an add-on.
    ///
    /// # Errors
    /// 403 with the text of the reference when the add-on is not open.
    pub fn require(&self, name: &str) -> Result<(), ApiError> {
        match &self.0 {
            Open::Named(open) if !open.iter().any(|addon| addon == name) => Err(
                ApiError::forbidden(format!("operation requires addon: {name}")),
            ),
            _ => Ok(()),
        }
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
    /// Add-ons that the token opens.
    pub addons: OpenAddons,
}

/// What the roles of a user leave of the tenant's fleet, for the request at hand. In lists of names `None`
/// means everything. It is what the reference sends upstream in its `X-MEN-RBAC-*` headers (reference: user
/// administration 4.1).
///
/// The services that own the things enforce it, best through the questions below: inventory the devices it
/// shows and changes, deployments the devices they reach and the releases they show, the device connection
/// its sessions.
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
    /// Single devices that may be seen and changed besides those of the groups.
    pub inventory_devices: Vec<String>,
    /// Single devices that deployments may be created for besides those of the groups.
    pub deployment_devices: Vec<String>,
    /// Single devices that may be connected to besides those of the groups.
    pub terminal_devices: Vec<String>,
}

impl Grants {
    /// No limit: the grants of a user with full access.
    pub fn everything() -> Grants {
        Grants::default()
    }

    /// Whether a device, in this static group or in none, may be seen and changed.
    pub fn sees_device(&self, id: &str, group: Option<&str>) -> bool {
        admits(&self.inventory_groups, &self.inventory_devices, id, group)
    }

    /// Whether a deployment may reach a device, in this static group or in none.
    pub fn may_deploy_to(&self, id: &str, group: Option<&str>) -> bool {
        admits(&self.deployment_groups, &self.deployment_devices, id, group)
    }

    /// Whether a deployment may be created for a whole group.
    pub fn may_deploy_to_group(&self, group: &str) -> bool {
        admits(&self.deployment_groups, &[], "", Some(group))
    }

    /// Whether a device, in this static group or in none, may be connected to.
    pub fn may_connect_to(&self, id: &str, group: Option<&str>) -> bool {
        admits(&self.terminal_groups, &self.terminal_devices, id, group)
    }

    /// Whether a release with these tags may be seen and deployed.
    pub fn sees_release<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> bool {
        match &self.release_tags {
            None => true,
            Some(granted) => tags.into_iter().any(|tag| granted.iter().any(|g| g == tag)),
        }
    }
}

fn admits(groups: &Option<Vec<String>>, devices: &[String], id: &str, group: Option<&str>) -> bool {
    let Some(groups) = groups else { return true };
    group.is_some_and(|group| groups.iter().any(|granted| granted == group))
        || devices.iter().any(|granted| granted == id)
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
    /// Add-ons that the token opens.
    pub addons: OpenAddons,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addons_open_by_name_or_by_trial() {
        let addon = |name: &str, enabled| Addon {
            name: name.to_owned(),
            enabled,
        };
        let own = || Some(vec![addon("configure", true), addon("monitor", false)]);
        let of = OpenAddons::of_claims(own(), None);
        assert!(of.require("configure").is_ok());
        assert!(of.require("monitor").is_err() && of.require("troubleshoot").is_err());
        let trial = OpenAddons::of_claims(None, Some(true));
        assert!(trial.require("monitor").is_ok());
        assert!(OpenAddons::default().require("configure").is_err());
    }

    #[test]
    fn the_default_tenant_has_a_name_in_paths() {
        assert_eq!(TenantId::new("default"), TenantId::default());
        assert_eq!(TenantId::new("other").as_str(), "other");
    }

    #[test]
    fn grants_admit_groups_and_single_devices() {
        let everything = Grants::everything();
        assert!(everything.sees_device("a", None) && everything.sees_release([]));
        let some = Grants {
            inventory_groups: Some(vec!["g".to_owned()]),
            deployment_groups: Some(Vec::new()),
            release_tags: Some(vec!["t".to_owned()]),
            inventory_devices: vec!["a".to_owned()],
            ..Grants::default()
        };
        assert!(some.sees_device("x", Some("g")) && some.sees_device("a", None));
        assert!(!some.sees_device("x", None) && !some.sees_device("x", Some("h")));
        assert!(!some.may_deploy_to("a", Some("g")) && !some.may_deploy_to_group("g"));
        assert!(some.may_connect_to("x", None));
        assert!(some.sees_release(["s", "t"]) && !some.sees_release([]));
    }
}
