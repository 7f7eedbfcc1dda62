//! Whether roles open a request, and what they leave of the fleet for it.

use std::sync::Arc;

use ambidex_access::Grants;

use super::rules::{Limit, Rules, SetRules};
use super::sets::SetKind;

/// What the roles say to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// One of the roles opens it.
    pub(crate) allowed: bool,
    pub(crate) grants: Grants,
}

/// A union of limits; untouched it says nothing.
#[derive(Default)]
struct Union {
    touched: bool,
    everything: bool,
    groups: Vec<String>,
    devices: Vec<String>,
}

impl Union {
    /// A limit of version 1: one that names nothing is none.
    fn add_limit(&mut self, limit: &Limit) {
        self.touched = true;
        self.everything |= limit.everything || !limit.is_set();
        self.groups.extend(limit.groups.iter().cloned());
        self.devices.extend(limit.devices.iter().cloned());
    }

    fn add_set(&mut self, set: &SetRules) {
        self.touched = true;
        match &set.scope {
            None => self.everything = true,
            Some(names) => self.groups.extend(names.iter().cloned()),
        }
    }

    fn finish(mut self) -> (Option<Vec<String>>, Vec<String>) {
        if !self.touched || self.everything {
            return (None, Vec::new());
        }
        self.groups.sort_unstable();
        self.groups.dedup();
        self.devices.sort_unstable();
        self.devices.dedup();
        (Some(self.groups), self.devices)
    }
}

/// Decides. `uri` is path and query as they came; `HEAD` counts as `GET`.
pub(crate) fn decide(roles: &[Arc<Rules>], method: &str, uri: &str) -> Verdict {
    let method = if method == "HEAD" { "GET" } else { method };
    let plain = roles.iter().any(|role| role.opens(method, uri));
    let all: Vec<&SetRules> = roles.iter().flat_map(|role| &role.sets).collect();
    let opening: Vec<&SetRules> = all
        .iter()
        .copied()
        .filter(|set| set.opens(method, uri))
        .collect();
    let collect = |pick: fn(&Rules) -> &Limit| {
        let mut limit = Limit::default();
        roles.iter().for_each(|role| limit.merge(pick(role)));
        limit
    };
    let view = collect(|role| &role.view);
    let devices = |pick: fn(&Rules) -> &Limit| {
        let own = collect(pick);
        // Who may see some devices only can do things to no others.
        let limit = if own.is_set() { &own } else { &view };
        union(
            SetKind::Devices,
            plain.then_some(limit),
            &opening,
            &all,
            limit,
        )
    };
    let (inventory_groups, inventory_devices) = devices(|role| &role.view).finish();
    let (deployment_groups, deployment_devices) = devices(|role| &role.deploy).finish();
    let (terminal_groups, terminal_devices) = devices(|role| &role.connect).finish();
    let none = Limit::default();
    let (release_tags, _) = union(
        SetKind::Releases,
        plain.then_some(&none),
        &opening,
        &all,
        &none,
    )
    .finish();
    Verdict {
        allowed: plain || !opening.is_empty(),
        grants: Grants {
            inventory_groups,
            deployment_groups,
            terminal_groups,
            release_tags,
            inventory_devices,
            deployment_devices,
            terminal_devices,
        },
    }
}

/// The scopes of what opens the request; if none of that is about this kind of things, of all there is.
fn union(
    kind: SetKind,
    plain: Option<&Limit>,
    opening: &[&SetRules],
    all: &[&SetRules],
    limit: &Limit,
) -> Union {
    let mut union = Union::default();
    if let Some(limit) = plain {
        union.add_limit(limit);
    }
    for set in opening.iter().filter(|set| set.kind == kind) {
        union.add_set(set);
    }
    if !union.touched {
        if limit.is_set() {
            union.add_limit(limit);
        }
        for set in all.iter().filter(|set| set.kind == kind) {
            union.add_set(set);
        }
    }
    union
}

/// What every user may do whatever the roles: see and change the own account, leave.
pub(crate) fn own_thing(method: &str, uri: &str) -> bool {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let Some(rest) = path.strip_prefix("/api/management/") else {
        return false;
    };
    matches!(
        (method, rest),
        ("GET" | "HEAD" | "PUT", "v1/useradm/users/me")
            | ("PUT", "v2/useradm/users/me")
            | (
                "POST",
                "v1/useradm/auth/logout" | "v1/useradm/auth/plan-verify"
            )
            | ("GET" | "HEAD" | "POST", "v1/useradm/settings/me")
            | ("GET" | "HEAD", "v1/useradm/2faqr")
            | ("PUT", "v1/useradm/2faverify")
            | (
                "POST",
                "v1/useradm/users/me/2fa/enable" | "v1/useradm/users/me/2fa/disable"
            )
    )
}

#[cfg(test)]
mod tests {
    use super::super::{FULL_ACCESS, builtin};
    use super::*;
    use ambidex_wire::management::useradm::{Permission, ScopedPermissionSet};
    use serde_json::{Value, json};

    fn plain(permissions: Value) -> Arc<Rules> {
        let permissions: Vec<Permission> = serde_json::from_value(permissions).unwrap_or_default();
        assert!(!permissions.is_empty());
        Arc::new(Rules::compile(&permissions, &[]))
    }

    fn scoped(sets: Value) -> Arc<Rules> {
        let sets: Vec<ScopedPermissionSet> = serde_json::from_value(sets).unwrap_or_default();
        assert!(!sets.is_empty());
        Arc::new(Rules::compile(&[], &sets))
    }

    fn builtin(name: &str) -> Arc<Rules> {
        builtin::rules(name).unwrap_or_default()
    }

    fn groups(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    const DEVICES: &str = "/api/management/v1/inventory/devices";
    const DEPLOYMENTS: &str = "/api/management/v1/deployments/deployments";

    #[test]
    fn built_in_roles_do_what_their_names_say() {
        for (role, method, uri, allowed) in [
            (FULL_ACCESS, "DELETE", DEVICES, true),
            ("RBAC_ROLE_OBSERVER", "GET", DEVICES, true),
            ("RBAC_ROLE_OBSERVER", "HEAD", DEVICES, true),
            ("RBAC_ROLE_OBSERVER", "DELETE", DEVICES, false),
            ("RBAC_ROLE_OBSERVER", "POST", DEPLOYMENTS, false),
            (
                "RBAC_ROLE_OBSERVER",
                "POST",
                "/api/management/v2/inventory/filters/search",
                true,
            ),
            (
                "RBAC_ROLE_OBSERVER",
                "GET",
                "/api/management/v1/deviceconfig/configurations/device/1",
                false,
            ),
            (
                "RBAC_ROLE_CI",
                "POST",
                "/api/management/v1/deployments/artifacts",
                true,
            ),
            (
                "RBAC_ROLE_CI",
                "POST",
                "/api/management/v1/deployments/artifacts/generate",
                true,
            ),
            (
                "RBAC_ROLE_CI",
                "DELETE",
                "/api/management/v1/deployments/artifacts/1",
                true,
            ),
            ("RBAC_ROLE_CI", "GET", DEVICES, false),
            ("RBAC_ROLE_CI", "POST", DEPLOYMENTS, false),
            ("RBAC_ROLE_DEPLOYMENTS_MANAGER", "POST", DEPLOYMENTS, true),
            (
                "RBAC_ROLE_DEPLOYMENTS_MANAGER",
                "GET",
                "/api/management/v1/deployments/artifacts/1/download",
                false,
            ),
            (
                "RBAC_ROLE_DEPLOYMENTS_MANAGER",
                "POST",
                "/api/management/v1/deployments/artifacts",
                false,
            ),
            (
                "RBAC_ROLE_DEPLOYMENTS_MANAGER",
                "GET",
                "/api/management/v1/deployments/artifacts?page=1",
                true,
            ),
            (
                "RBAC_ROLE_REMOTE_TERMINAL",
                "GET",
                "/api/management/v1/deviceconnect/devices/1/connect",
                true,
            ),
            (
                "RBAC_ROLE_REMOTE_TERMINAL",
                "PUT",
                "/api/management/v1/deviceconnect/devices/1/upload",
                true,
            ),
            ("RBAC_ROLE_REMOTE_TERMINAL", "POST", DEPLOYMENTS, false),
        ] {
            let verdict = decide(&[builtin(role)], method, uri);
            assert_eq!(verdict.allowed, allowed, "{role} {method} {uri}");
            assert_eq!(verdict.grants, Grants::everything(), "{role}");
        }
        assert!(!decide(&[], "GET", DEVICES).allowed, "no role, no access");
    }

    #[test]
    fn group_permissions_narrow_what_others_open() {
        let group = plain(json!([
            {"action": "CREATE_DEPLOYMENT", "object": {"type": "DEVICE_GROUP", "value": "test"}}]));
        assert!(!decide(std::slice::from_ref(&group), "POST", DEPLOYMENTS).allowed);
        let both = decide(&[builtin(FULL_ACCESS), group], "POST", DEPLOYMENTS);
        assert!(both.allowed);
        assert_eq!(both.grants.deployment_groups, groups(&["test"]));
        assert_eq!(both.grants.inventory_groups, None);

        let view = plain(json!([
            {"action": "VIEW_DEVICE", "object": {"type": "DEVICE_GROUP", "value": "b"}},
            {"action": "VIEW_DEVICE", "object": {"type": "DEVICE_GROUP", "value": "a"}},
            {"action": "VIEW_DEVICE", "object": {"type": "DEVICE_ID", "value": "1"}},
            {"action": "REMOTE_TERMINAL", "object": {"type": "any", "value": "any"}},
            {"action": "http", "object": {"type": "any", "value": "^/api/management/"}}]));
        let grants = decide(&[view], "GET", DEVICES).grants;
        assert_eq!(grants.inventory_groups, groups(&["a", "b"]));
        assert_eq!(grants.inventory_devices, ["1"]);
        assert_eq!(grants.deployment_groups, groups(&["a", "b"]), "as seen");
        assert_eq!(grants.terminal_groups, None, "named: all");
    }

    #[test]
    fn scopes_belong_to_their_sets() {
        let role = scoped(json!([
            {"name": "ReadDevices", "scope": {"type": "DeviceGroups", "value": ["a", "b"]}},
            {"name": "ManageDevices", "scope": {"type": "DeviceGroups", "value": ["a"]}},
            {"name": "DeployToDevices"},
            {"name": "ReadReleases", "scope": {"type": "ReleaseTags", "value": ["t"]}}]));
        let ask = |method: &str, uri: &str| decide(std::slice::from_ref(&role), method, uri);
        assert_eq!(
            ask("GET", DEVICES).grants.inventory_groups,
            groups(&["a", "b"])
        );
        let put = ask("PUT", &format!("{DEVICES}/1/group"));
        assert!(put.allowed);
        assert_eq!(
            put.grants.inventory_groups,
            groups(&["a"]),
            "reading b is no right to change it"
        );
        let deploy = ask("POST", DEPLOYMENTS);
        assert_eq!(
            (deploy.allowed, deploy.grants.deployment_groups),
            (true, None)
        );
        assert_eq!(
            deploy.grants.release_tags,
            groups(&["t"]),
            "only releases that may be seen"
        );
        assert!(!ask("POST", "/api/management/v1/deployments/artifacts").allowed);
        assert!(
            ask("GET", "/api/management/v1/useradm/settings").allowed,
            "basic"
        );
        assert!(!ask("GET", "/api/management/v1/useradm/users").allowed);

        let wider = decide(&[role, builtin("RBAC_ROLE_OBSERVER")], "GET", DEVICES);
        assert_eq!(wider.grants.inventory_groups, None, "roles add up");
    }

    #[test]
    fn the_own_account_is_open_to_all() {
        for (method, path, open) in [
            ("GET", "/api/management/v1/useradm/users/me", true),
            ("PUT", "/api/management/v1/useradm/users/me", true),
            ("DELETE", "/api/management/v1/useradm/users/me", false),
            ("GET", "/api/management/v1/useradm/users/me?x=1", true),
            ("GET", "/api/management/v1/useradm/users/other", false),
            ("POST", "/api/management/v1/useradm/auth/logout", true),
            ("POST", "/api/management/v1/useradm/settings", false),
        ] {
            assert_eq!(own_thing(method, path), open, "{method} {path}");
        }
    }
}
