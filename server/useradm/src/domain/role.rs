//! Roles of a tenant: making, showing, changing, removing them.

use std::collections::BTreeSet;

use ambidex_access::{TenantId, UserIdentity};
use ambidex_db::{DbError, Statement};
use ambidex_wire::management::auditlogs::Object;
use ambidex_wire::management::useradm::{Role, ScopedPermissionSet, ScopedRole};

use super::rbac::{builtin, check_permission, sets};
use super::{audit, rbac};
use crate::store::role::Stored;
use crate::{Inner, UseradmError, store};

const NAME_CHARS_MAX: usize = 128;
const DESCRIPTION_CHARS_MAX: usize = 4096;
/// Permissions of one role. Each costs a search in every request of its users.
const PERMISSIONS_MAX: usize = 128;
/// Sets of one role (reference: section 7).
const SETS_MAX: usize = 15;
/// Groups or tags of one scope.
const SCOPE_MAX: usize = 1024;
/// Roles of one tenant.
const ROLES_MAX: u64 = 512;
/// Roles of one user.
const USER_ROLES_MAX: usize = 32;

const NOT_FOUND: UseradmError = UseradmError::NotFound("role not found");
const BUILT_IN: &str = "built-in roles cannot be changed or removed";

/// What a role is made of, checked.
pub(crate) struct Draft(Stored);

fn invalid(text: impl Into<String>) -> UseradmError {
    UseradmError::Invalid(text.into())
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, UseradmError> {
    serde_json::to_string(value).map_err(|e| invalid(e.to_string()))
}

fn check_name(name: &str) -> Result<(), UseradmError> {
    if name.is_empty() {
        return Err(invalid("name: cannot be blank."));
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(invalid(format!(
            "name: the length must be no more than {NAME_CHARS_MAX}."
        )));
    }
    // The name is a segment of a path.
    let bad = |c: char| c.is_control() || "/\\?#%".contains(c);
    if name.contains(bad) || name == "." || name == ".." || name.trim() != name {
        return Err(invalid("name: must be fit for a path."));
    }
    Ok(())
}

fn check_description(text: &str) -> Result<(), UseradmError> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(invalid(format!(
            "description: the length must be no more than {DESCRIPTION_CHARS_MAX}."
        )));
    }
    Ok(())
}

impl Draft {
    /// A role as version 1 of the API takes it.
    pub(crate) fn plain(role: Role) -> Result<Draft, UseradmError> {
        check_name(&role.name)?;
        check_description(&role.description)?;
        if role.permissions.len() > PERMISSIONS_MAX {
            return Err(invalid(format!(
                "permissions: the length must be no more than {PERMISSIONS_MAX}."
            )));
        }
        for (index, permission) in role.permissions.iter().enumerate() {
            check_permission(permission)
                .map_err(|text| invalid(format!("permissions: {index}: {text}")))?;
        }
        Ok(Draft(Stored {
            permissions: json(&role.permissions)?,
            sets: "[]".to_owned(),
            name: role.name,
            description: role.description,
        }))
    }

    /// A role as version 2 of the API takes it.
    pub(crate) fn scoped(role: ScopedRole) -> Result<Draft, UseradmError> {
        check_name(&role.name)?;
        check_description(&role.description)?;
        let sets = &role.permission_sets_with_scope;
        if sets.is_empty() {
            return Err(invalid("permission_sets_with_scope: cannot be blank."));
        }
        if sets.len() > SETS_MAX {
            return Err(invalid(format!(
                "permission_sets_with_scope: the length must be no more than {SETS_MAX}."
            )));
        }
        for (index, set) in sets.iter().enumerate() {
            check_set(set)
                .map_err(|text| invalid(format!("permission_sets_with_scope: {index}: {text}")))?;
        }
        Ok(Draft(Stored {
            permissions: "[]".to_owned(),
            sets: json(sets)?,
            name: role.name,
            description: role.description,
        }))
    }
}

fn check_set(set: &ScopedPermissionSet) -> Result<(), String> {
    let Some(known) = sets::find(&set.name) else {
        return Err(format!("name: there is no permission set {}.", set.name));
    };
    let Some(scope) = &set.scope else {
        return Ok(());
    };
    if known.scope_type() != Some(scope.kind.as_str()) {
        return Err(match known.scope_type() {
            Some(kind) => format!("scope: type: must be {kind}."),
            None => format!("scope: {} has none.", known.name),
        });
    }
    let mut seen = BTreeSet::new();
    if scope.value.is_empty() || scope.value.len() > SCOPE_MAX {
        return Err(format!("scope: value: must have 1 to {SCOPE_MAX} entries."));
    }
    for value in &scope.value {
        if value.is_empty() || value.len() > 1024 || !seen.insert(value) {
            return Err("scope: value: must be different names.".to_owned());
        }
    }
    Ok(())
}

/// As version 1 of the API shows it.
fn plain(stored: &Stored) -> Role {
    let sets: Vec<ScopedPermissionSet> = serde_json::from_str(&stored.sets).unwrap_or_default();
    let mut permissions = serde_json::from_str(&stored.permissions).unwrap_or_else(|_| Vec::new());
    permissions.extend(sets::flatten(&sets));
    Role {
        name: stored.name.clone(),
        description: stored.description.clone(),
        permissions,
    }
}

/// As version 2 of the API shows it.
fn scoped(stored: &Stored) -> ScopedRole {
    ScopedRole {
        name: stored.name.clone(),
        description: stored.description.clone(),
        permission_sets_with_scope: serde_json::from_str(&stored.sets).unwrap_or_default(),
        permissions: serde_json::from_str(&stored.permissions).unwrap_or_default(),
    }
}

/// Built-in ones first, then the tenant's by name.
pub(crate) async fn list(inner: &Inner, tenant: &TenantId) -> Result<Vec<Role>, UseradmError> {
    let stored = store::role::all(inner.db(), tenant.as_str()).await?;
    Ok(builtin::plain().chain(stored.iter().map(plain)).collect())
}

/// As [`list`], for version 2 of the API.
pub(crate) async fn list_scoped(
    inner: &Inner,
    tenant: &TenantId,
) -> Result<Vec<ScopedRole>, UseradmError> {
    let stored = store::role::all(inner.db(), tenant.as_str()).await?;
    Ok(builtin::scoped().chain(stored.iter().map(scoped)).collect())
}

pub(crate) async fn get(
    inner: &Inner,
    tenant: &TenantId,
    name: &str,
) -> Result<Role, UseradmError> {
    match builtin::plain().find(|role| role.name == name) {
        Some(role) => Ok(role),
        None => stored(inner, tenant, name).await.map(|role| plain(&role)),
    }
}

pub(crate) async fn get_scoped(
    inner: &Inner,
    tenant: &TenantId,
    name: &str,
) -> Result<ScopedRole, UseradmError> {
    match builtin::scoped().find(|role| role.name == name) {
        Some(role) => Ok(role),
        None => stored(inner, tenant, name).await.map(|role| scoped(&role)),
    }
}

async fn stored(inner: &Inner, tenant: &TenantId, name: &str) -> Result<Stored, UseradmError> {
    store::role::by_name(inner.db(), tenant.as_str(), name)
        .await?
        .ok_or(NOT_FOUND)
}

pub(crate) async fn create(
    inner: &Inner,
    caller: &UserIdentity,
    Draft(role): Draft,
) -> Result<String, UseradmError> {
    let exists = || UseradmError::Unprocessable("role with a given name already exists".to_owned());
    let tenant = caller.tenant.as_str();
    if builtin::exists(&role.name) {
        return Err(exists());
    }
    if store::role::count(inner.db(), tenant).await? >= ROLES_MAX {
        return Err(UseradmError::Unprocessable(format!(
            "a tenant can have at most {ROLES_MAX} roles"
        )));
    }
    let object = Object::other("role", &role.name);
    let event = audit::record(inner, caller, "create", object, None).await?;
    let batch = vec![store::role::insert(tenant, &role, inner.now_ms()), event];
    match inner.db().apply(batch).await {
        Ok(_) => {}
        Err(DbError::UniqueViolation { .. }) => return Err(exists()),
        Err(other) => return Err(other.into()),
    }
    inner.parts.jobs.wake();
    Ok(role.name)
}

pub(crate) async fn update(
    inner: &Inner,
    caller: &UserIdentity,
    Draft(role): Draft,
) -> Result<(), UseradmError> {
    if builtin::exists(&role.name) {
        return Err(invalid(BUILT_IN));
    }
    let before = stored(inner, &caller.tenant, &role.name).await?;
    let diff = audit::diff(&scoped(&before), &scoped(&role));
    let change = format!("Updated role {}:\n{diff}", role.name);
    let object = Object::other("role", &role.name);
    let event = audit::record(inner, caller, "update", object, Some(change)).await?;
    let batch = vec![store::role::update(caller.tenant.as_str(), &role), event];
    match inner.db().apply(batch).await {
        Ok(_) => {}
        Err(DbError::Conflict { .. }) => return Err(NOT_FOUND),
        Err(other) => return Err(other.into()),
    }
    inner.parts.jobs.wake();
    Ok(())
}

/// Removes a role, and takes it from its users; one that does not exist is no error. A user left without any role
/// can do nothing but look after the own account.
pub(crate) async fn delete(
    inner: &Inner,
    caller: &UserIdentity,
    name: &str,
) -> Result<(), UseradmError> {
    if builtin::exists(name) {
        return Err(UseradmError::Forbidden(BUILT_IN));
    }
    let tenant = caller.tenant.as_str();
    if store::role::by_name(inner.db(), tenant, name)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let mut batch = Vec::from(store::role::delete(tenant, name));
    let object = Object::other("role", name);
    batch.push(audit::record(inner, caller, "delete", object, None).await?);
    inner.db().apply(batch).await?;
    inner.parts.jobs.wake();
    Ok(())
}

/// The statements that give exactly these roles to a user. The batch fails with a conflict if a role is removed
/// meanwhile.
///
/// # Errors
/// [`UseradmError::Unprocessable`] names a role that does not exist.
pub(super) async fn give(
    inner: &Inner,
    tenant: &TenantId,
    user: &str,
    roles: &[String],
) -> Result<Vec<Statement>, UseradmError> {
    let distinct: BTreeSet<&String> = roles.iter().collect();
    if distinct.len() > USER_ROLES_MAX {
        return Err(UseradmError::Unprocessable(format!(
            "a user can have at most {USER_ROLES_MAX} roles"
        )));
    }
    let tenant_id = tenant.as_str();
    let (mut holds, mut gifts) = (Vec::new(), Vec::new());
    for role in roles {
        // Repeated names count once, where they come first.
        if !distinct.contains(role) || gifts.iter().any(|(given, _)| *given == role) {
            continue;
        }
        if !builtin::exists(role) {
            if store::role::by_name(inner.db(), tenant_id, role)
                .await?
                .is_none()
            {
                return Err(UseradmError::Unprocessable(format!(
                    "role {role} does not exist"
                )));
            }
            holds.push(store::role::hold(tenant_id, role));
        }
        let position = gifts.len();
        gifts.push((role, store::role::give(tenant_id, user, position, role)));
    }
    let mut batch = holds;
    batch.push(store::role::clear(tenant_id, user));
    batch.extend(gifts.into_iter().map(|(_, statement)| statement));
    Ok(batch)
}

/// Roles of a user who was given none.
pub(super) fn default_roles() -> Vec<String> {
    vec![rbac::FULL_ACCESS.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn draft(role: Value) -> Result<Draft, UseradmError> {
        match serde_json::from_value::<ScopedRole>(role.clone()) {
            Ok(scoped) if role.get("permission_sets_with_scope").is_some() => Draft::scoped(scoped),
            _ => Draft::plain(serde_json::from_value(role).map_err(|e| invalid(e.to_string()))?),
        }
    }

    #[test]
    fn drafts_are_checked() {
        let many = |n: usize| vec![json!({"name": "ReadUsers"}); n];
        let scope = |kind: &str, value: Value| {
            json!({"name": "r", "permission_sets_with_scope":
                [{"name": "ReadDevices", "scope": {"type": kind, "value": value}}]})
        };
        for (role, fine) in [
            (json!({"name": "r"}), true),
            (json!({"name": "a role-1_x.y"}), true),
            (json!({"name": ""}), false),
            (json!({"name": "a/b"}), false),
            (json!({"name": ".."}), false),
            (json!({"name": " a"}), false),
            (json!({"name": "x".repeat(129)}), false),
            (
                json!({"name": "r", "permissions": [{"action": "x", "object": {"type": "any", "value": "any"}}]}),
                false,
            ),
            (
                json!({"name": "r", "permission_sets_with_scope": []}),
                false,
            ),
            (
                json!({"name": "r", "permission_sets_with_scope": many(15)}),
                true,
            ),
            (
                json!({"name": "r", "permission_sets_with_scope": many(16)}),
                false,
            ),
            (
                json!({"name": "r", "permission_sets_with_scope": [{"name": "Nonsense"}]}),
                false,
            ),
            (scope("DeviceGroups", json!(["a", "b"])), true),
            (scope("DeviceGroups", json!(["a", "a"])), false),
            (scope("DeviceGroups", json!([])), false),
            (scope("DeviceGroups", json!([""])), false),
            (scope("ReleaseTags", json!(["a"])), false),
        ] {
            let outcome = draft(role.clone());
            assert_eq!(outcome.is_ok(), fine, "{role}: {:?}", outcome.err());
        }
    }
}
