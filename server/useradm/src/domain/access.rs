//! Whether a user's request may go on.

use std::sync::Arc;

use ambidex_access::{Grants, TenantId, UserIdentity};
use ambidex_db::DbError;

use super::rbac::{Rules, Verdict, builtin, decide, own_thing};
use crate::{Inner, RequestDenied, UseradmError, store};

/// The time of the last use of a personal access token is not written more often.
const LAST_USED_MS: i64 = 5 * 60 * 1000;

pub(crate) async fn check(
    inner: &Inner,
    user: &UserIdentity,
    method: &str,
    uri: &str,
) -> Result<Grants, RequestDenied> {
    let (tenant, jti) = (user.tenant.as_str(), user.jti.to_string());
    let token = store::token::counting(inner.db(), tenant, &user.user_id, &jti)
        .await?
        .ok_or(RequestDenied::Revoked)?;
    let verdict = verdict(inner, &user.tenant, &token.roles, method, uri).await?;
    if !verdict.allowed && !own_thing(method, uri) {
        return Err(RequestDenied::Forbidden);
    }
    let now_ms = inner.now_ms();
    if token.personal
        && token
            .last_used_ms
            .is_none_or(|at| at < now_ms - LAST_USED_MS)
    {
        let used = store::token::used(tenant, &user.user_id, &jti, now_ms);
        inner.db().apply(vec![used]).await?;
    }
    Ok(verdict.grants)
}

/// What roles say to a request. Those that do not exist any more say nothing.
pub(crate) async fn verdict(
    inner: &Inner,
    tenant: &TenantId,
    roles: &[String],
    method: &str,
    uri: &str,
) -> Result<Verdict, DbError> {
    let mut rules: Vec<Arc<Rules>> = Vec::with_capacity(roles.len());
    for role in roles {
        match builtin::rules(role) {
            Some(builtin) => rules.push(builtin),
            None => {
                let stored = store::role::by_name(inner.db(), tenant.as_str(), role).await?;
                rules.extend(stored.map(|role| inner.rules.rules(&role.permissions, &role.sets)));
            }
        }
    }
    Ok(decide(&rules, method, uri))
}

/// Whether the roles of the caller, and not only that it is about himself, open a request.
pub(crate) async fn opened_by_roles(
    inner: &Inner,
    caller: &UserIdentity,
    method: &str,
    uri: &str,
) -> Result<bool, UseradmError> {
    let tenant = caller.tenant.as_str();
    let roles = store::role::of_user(inner.db(), tenant, &caller.user_id).await?;
    Ok(verdict(inner, &caller.tenant, &roles, method, uri)
        .await?
        .allowed)
}

/// Addresses of the users of a tenant who may see a device, in the order of their creation.
pub(crate) async fn who_sees_device(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
) -> Result<Vec<String>, UseradmError> {
    let group = inner.parts.devices.group_of(tenant, device).await?;
    let uri = format!("/api/management/v1/inventory/devices/{device}");
    let mut emails = Vec::new();
    for user in super::user::list(inner, tenant, &super::user::Filter::default()).await? {
        let verdict = verdict(inner, tenant, &user.roles, "GET", &uri).await?;
        if verdict.allowed && verdict.grants.sees_device(device, group.as_deref()) {
            emails.push(user.email);
        }
    }
    Ok(emails)
}
