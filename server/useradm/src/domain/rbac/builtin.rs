//! Roles that every tenant has and that nobody can change.

use std::sync::{Arc, LazyLock};

use ambidex_wire::management::useradm::{
    Permission, PermissionObject, Role, ScopedPermissionSet, ScopedRole,
};

use super::{FULL_ACCESS, Rules, sets};

struct Builtin {
    role: ScopedRole,
    rules: Arc<Rules>,
}

fn http(method: &str, pattern: &str) -> Permission {
    Permission {
        action: "http".to_owned(),
        object: PermissionObject {
            kind: method.to_owned(),
            value: pattern.to_owned(),
        },
    }
}

fn named(names: &[&str]) -> Vec<ScopedPermissionSet> {
    names
        .iter()
        .map(|name| ScopedPermissionSet {
            name: (*name).to_owned(),
            scope: None,
        })
        .collect()
}

static BUILTINS: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    let make = |name: &str, description: &str, permissions: Vec<Permission>, sets: &[&str]| {
        let sets = named(sets);
        // Where single permissions are told, the sets only describe them.
        let rules = match permissions.is_empty() {
            true => Rules::compile(&[], &sets),
            false => Rules::compile(&permissions, &[]),
        };
        Builtin {
            role: ScopedRole {
                name: name.to_owned(),
                description: description.to_owned(),
                permission_sets_with_scope: sets,
                permissions,
            },
            rules: Arc::new(rules),
        }
    };
    let everything = Permission {
        action: "any".to_owned(),
        object: PermissionObject {
            kind: "any".to_owned(),
            value: "any".to_owned(),
        },
    };
    vec![
        make(
            FULL_ACCESS,
            "Full access.",
            vec![everything],
            &["SuperUser"],
        ),
        make(
            "RBAC_ROLE_OBSERVER",
            "Sees all devices, artifacts and deployments, changes nothing.",
            vec![
                http(
                    "GET",
                    "^/api/management/(v[1-9]|0.1.0)/(devauth|inventory|deployments|useradm|tenantadm)/",
                ),
                http("POST", "^/api/management/v2/inventory/filters/search"),
            ],
            &["ReadReleases", "ReadDevices"],
        ),
        make(
            "RBAC_ROLE_CI",
            "Manages artifacts, for systems that build software. No access to devices and deployments.",
            Vec::new(),
            &["ReadReleases", "ManageReleases", "UploadArtifacts"],
        ),
        make(
            "RBAC_ROLE_DEPLOYMENTS_MANAGER",
            "Creates and aborts deployments.",
            Vec::new(),
            &["ReadDevices", "DeployToDevices"],
        ),
        make(
            "RBAC_ROLE_REMOTE_TERMINAL",
            "Opens terminals on devices, for technical support.",
            Vec::new(),
            &["ReadDevices", "ConnectToDevices"],
        ),
    ]
});

fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.role.name == name)
}

pub(crate) fn exists(name: &str) -> bool {
    find(name).is_some()
}

pub(crate) fn rules(name: &str) -> Option<Arc<Rules>> {
    find(name).map(|builtin| Arc::clone(&builtin.rules))
}

/// All of them, for version 2 of the API.
pub(crate) fn scoped() -> impl Iterator<Item = ScopedRole> {
    BUILTINS.iter().map(|builtin| ScopedRole {
        permissions: Vec::new(),
        ..builtin.role.clone()
    })
}

/// All of them, for version 1 of the API.
pub(crate) fn plain() -> impl Iterator<Item = Role> {
    BUILTINS.iter().map(|builtin| Role {
        name: builtin.role.name.clone(),
        description: builtin.role.description.clone(),
        permissions: match builtin.role.permissions.is_empty() {
            true => sets::flatten(&builtin.role.permission_sets_with_scope),
            false => builtin.role.permissions.clone(),
        },
    })
}
