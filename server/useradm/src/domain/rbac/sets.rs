//! The sets of permissions that roles of version 2 are made of. Their names are fixed (reference: section 7).

use ambidex_wire::management::useradm::{
    Permission, PermissionObject, PermissionSet, ScopedPermissionSet,
};

pub(crate) const DEVICE_GROUPS: &str = "DeviceGroups";
pub(crate) const RELEASE_TAGS: &str = "ReleaseTags";
/// Comes with every other set.
pub(super) const BASIC: &str = "Basic";

/// What the scope of a set limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetKind {
    Devices,
    Releases,
    Other,
}

/// A set as it is known here. Permissions are `(method, pattern)`.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(super) kind: SetKind,
    pub(super) everything: bool,
    action: &'static str,
    object: &'static str,
    description: &'static str,
    http: &'static [(&'static str, &'static str)],
}

impl Set {
    /// The type of scope that it may have.
    pub(crate) fn scope_type(&self) -> Option<&'static str> {
        match self.kind {
            SetKind::Devices => Some(DEVICE_GROUPS),
            SetKind::Releases => Some(RELEASE_TAGS),
            SetKind::Other => None,
        }
    }

    /// The action of version 1 that its scope narrows.
    fn limits(&self) -> Option<&'static str> {
        match self.name {
            "ReadDevices" | "ManageDevices" => Some("VIEW_DEVICE"),
            "DeployToDevices" | "ConfigureDevices" => Some("CREATE_DEPLOYMENT"),
            "ConnectToDevices" => Some("REMOTE_TERMINAL"),
            _ => None,
        }
    }
}

macro_rules! api {
    ($($tail:literal),+) => { concat!("^/api/management/(v[1-9]|0.1.0)/", $($tail),+) };
}

const DEVICES: &str = "Device groups";
const RELEASES: &str = "Releases";
const USERS: &str = "User management";

const fn set(
    name: &'static str,
    kind: SetKind,
    action: &'static str,
    object: &'static str,
    description: &'static str,
    http: &'static [(&'static str, &'static str)],
) -> Set {
    Set {
        name,
        kind,
        everything: false,
        action,
        object,
        description,
        http,
    }
}

/// All sets, in the order in which they are listed.
pub(crate) const SETS: &[Set] = &[
    set(
        BASIC,
        SetKind::Other,
        "",
        "",
        "What every user may do: own account, settings, names of roles.",
        &[
            ("any", "^/api/management/v1/useradm/settings$"),
            ("any", "^/api/management/(v[1-9])/useradm/users/me$"),
            ("any", "^/api/management/1.0/auth/verify$"),
            ("PUT", "^/api/management/v1/useradm/2faverify$"),
            (
                "POST",
                "^/api/management/v1/useradm/users/me/2fa/(enable|disable)$",
            ),
            (
                "GET",
                "^/api/management/(v[1-9])/useradm/(roles|permission_sets|plans|plan_binding)",
            ),
            ("GET", "^/api/management/(v[1-9])/tenantadm/user/tenant"),
        ],
    ),
    set(
        "ReadDevices",
        SetKind::Devices,
        "Read",
        DEVICES,
        "View devices.",
        &[
            ("POST", "^/api/management/v2/inventory/filters/search$"),
            ("POST", "^/api/management/v2/devauth/devices/search"),
            ("POST", "^/api/management/v1/reporting/devices/search"),
            (
                "GET",
                api!("(devauth|inventory|deviceconfig|devicemonitor|reporting)/"),
            ),
            ("GET", api!("deployments/deployments")),
            (
                "POST",
                api!("deployments/deployments/(statistics|devices)/"),
            ),
            ("GET", api!("deviceconnect/devices/[^/?]+$")),
        ],
    ),
    set(
        "ManageDevices",
        SetKind::Devices,
        "Manage",
        DEVICES,
        "Accept, reject, remove and group devices.",
        &[
            ("POST", api!("(devauth|inventory)/")),
            ("PUT", api!("(devauth|inventory)/")),
            ("PATCH", api!("(devauth|inventory)/")),
            ("DELETE", api!("(devauth|inventory)/")),
        ],
    ),
    set(
        "DeployToDevices",
        SetKind::Devices,
        "Deploy",
        DEVICES,
        "Create, see and abort deployments.",
        &[
            ("any", api!("deployments/deployments")),
            ("GET", api!("deployments/devices")),
            (
                "GET",
                api!("deployments/(artifacts|artifacts/list|releases)([?]|$)"),
            ),
            ("GET", api!("inventory/(groups|filters)")),
        ],
    ),
    set(
        "ConfigureDevices",
        SetKind::Devices,
        "Configure",
        DEVICES,
        "See, change and deploy the configuration of devices.",
        &[("any", api!("deviceconfig/"))],
    ),
    set(
        "ConnectToDevices",
        SetKind::Devices,
        "Connect",
        DEVICES,
        "Open terminals on devices, copy files, forward ports.",
        &[
            (
                "GET",
                api!("deviceconnect/devices/[^/?]+(/connect|/download)?([?]|$)"),
            ),
            ("PUT", api!("deviceconnect/devices/[^/?]+/upload([?]|$)")),
            (
                "POST",
                api!("deviceconnect/devices/[^/?]+/(check-update|send-inventory)([?]|$)"),
            ),
            ("GET", api!("deviceconnect/sessions/")),
        ],
    ),
    set(
        "ReadReleases",
        SetKind::Releases,
        "Read",
        RELEASES,
        "View releases and artifacts.",
        &[(
            "GET",
            api!("deployments/(artifacts|releases|deployments/releases)"),
        )],
    ),
    set(
        "ManageReleases",
        SetKind::Releases,
        "Manage",
        RELEASES,
        "Change and remove releases and artifacts.",
        &[
            ("GET", api!("deployments/(artifacts|releases)")),
            ("PUT", api!("deployments/artifacts/[^/?]+$")),
            ("PATCH", api!("deployments/releases/[^/?]+$")),
            ("DELETE", api!("deployments/(artifacts/[^/?]+$|releases)")),
        ],
    ),
    set(
        "UploadArtifacts",
        SetKind::Other,
        "Upload",
        "Artifacts",
        "Upload and generate artifacts.",
        &[("POST", api!("deployments/artifacts"))],
    ),
    set(
        "ReadUsers",
        SetKind::Other,
        "Read",
        USERS,
        "View users and roles.",
        &[("GET", "^/api/management/(v[1-9])/useradm/")],
    ),
    set(
        "ManageUsers",
        SetKind::Other,
        "Manage",
        USERS,
        "Create, change and remove users and roles.",
        &[("any", "^/api/management/(v[1-9])/useradm/")],
    ),
    set(
        "ManageTokens",
        SetKind::Other,
        "Manage",
        "Personal access tokens",
        "Create and revoke own personal access tokens.",
        &[("any", "^/api/management/v1/useradm/settings/tokens")],
    ),
    set(
        "ReadAuditLogs",
        SetKind::Other,
        "Read",
        "System audit log",
        "View the audit log.",
        &[("GET", api!("auditlogs/logs"))],
    ),
    Set {
        name: "SuperUser",
        kind: SetKind::Other,
        everything: true,
        action: "Any",
        object: "Any",
        description: "Do anything.",
        http: &[],
    },
];

pub(crate) fn find(name: &str) -> Option<&'static Set> {
    SETS.iter().find(|set| set.name == name)
}

fn permission(action: &str, kind: &str, value: &str) -> Permission {
    Permission {
        action: action.to_owned(),
        object: PermissionObject {
            kind: kind.to_owned(),
            value: value.to_owned(),
        },
    }
}

/// What a set allows, as permissions of version 1.
pub(super) fn permissions(set: &Set) -> Vec<Permission> {
    if set.everything {
        return vec![permission("any", "any", "any")];
    }
    set.http
        .iter()
        .map(|(method, pattern)| permission("http", method, pattern))
        .collect()
}

/// A role's sets as permissions of version 1, for clients that know only those.
pub(crate) fn flatten(sets: &[ScopedPermissionSet]) -> Vec<Permission> {
    let mut flat = Vec::new();
    for scoped in sets {
        let Some(known) = find(&scoped.name) else {
            continue;
        };
        flat.extend(permissions(known));
        if let (Some(scope), Some(action)) = (&scoped.scope, known.limits()) {
            let groups = scope.value.iter();
            flat.extend(groups.map(|group| permission(action, "DEVICE_GROUP", group)));
        }
    }
    flat
}

/// A set as clients see it.
pub(crate) fn show(set: &Set) -> PermissionSet {
    PermissionSet {
        name: set.name.to_owned(),
        action: set.action.to_owned(),
        object: set.object.to_owned(),
        description: set.description.to_owned(),
        permissions: permissions(set),
        supported_scope_types: set.scope_type().map(str::to_owned).into_iter().collect(),
    }
}
