//! Creating, finding, changing and deleting users.

use std::collections::HashMap;

use ambidex_access::{Passwords, TenantId, UserIdentity};
use ambidex_db::{DbError, Statement};
use ambidex_kit::new_id;
use ambidex_wire::management::auditlogs::Object;
use ambidex_wire::management::useradm::OwnPasswordUpdate;
use serde_json::{Map, Value};

use super::{
    Email, NewUser, Secret, TwoFactorStatus, User, access, audit, mail, password, role, two_factor,
};
use crate::error::FORBIDDEN;
use crate::{Inner, UseradmError, store};

/// Ids given from outside (imports, tests of other systems), in bytes.
const ID_BYTES_MAX: usize = 64;

/// Which users of a tenant are wanted. Empty lists and `None` mean all.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) ids: Vec<String>,
    pub(crate) emails: Vec<String>,
    /// Seconds since 1970, exclusive bounds.
    pub(crate) created_after: Option<i64>,
    pub(crate) created_before: Option<i64>,
    pub(crate) updated_after: Option<i64>,
    pub(crate) updated_before: Option<i64>,
}

impl Filter {
    fn admits(&self, user: &User) -> bool {
        let within = |ms: i64, after: Option<i64>, before: Option<i64>| {
            after.is_none_or(|s| ms > s.saturating_mul(1000))
                && before.is_none_or(|s| ms < s.saturating_mul(1000))
        };
        (self.ids.is_empty() || self.ids.contains(&user.id))
            && (self.emails.is_empty()
                || self
                    .emails
                    .iter()
                    .any(|e| e.eq_ignore_ascii_case(&user.email)))
            && within(user.created_ms, self.created_after, self.created_before)
            && within(user.updated_ms, self.updated_after, self.updated_before)
    }
}

/// What changes; `None` keeps.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) email: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) login: Option<Map<String, Value>>,
    pub(crate) roles: Option<Vec<String>>,
    /// Must be right if given.
    pub(crate) current_password: Option<String>,
}

impl Change {
    fn is_empty(&self) -> bool {
        self.email.is_none()
            && self.password.is_none()
            && self.login.is_none()
            && self.roles.is_none()
    }
}

fn duplicate(error: DbError) -> UseradmError {
    match error {
        DbError::UniqueViolation { constraint } if constraint.contains("email") => taken(),
        DbError::UniqueViolation { .. } => {
            UseradmError::Unprocessable("user with a given id already exists".to_owned())
        }
        DbError::Conflict { .. } => UseradmError::NotFound("user not found"),
        other => other.into(),
    }
}

fn login_text(login: Option<&Map<String, Value>>) -> Result<Option<String>, UseradmError> {
    let Some(login) = login else { return Ok(None) };
    if !login.values().all(Value::is_string) {
        return Err(UseradmError::Invalid(
            "login: must map providers to ids.".to_owned(),
        ));
    }
    serde_json::to_string(login)
        .map(Some)
        .map_err(|e| UseradmError::Invalid(e.to_string()))
}

/// A login name and proof, checked and costly things done: what a new user is made of.
struct Proof {
    hash: Option<String>,
    invite: bool,
}

async fn prove(inner: &Inner, email: &Email, secret: Secret) -> Result<Proof, UseradmError> {
    let (hash, invite) = match secret {
        Secret::Password(clear) => {
            password::check(&clear, email)?;
            // The costly hash comes after the cheap refusal; the database has the last word.
            if store::user::by_email(inner.db(), email.as_str())
                .await?
                .is_some()
            {
                return Err(taken());
            }
            (Some(inner.passwords.hash(clear).await?), false)
        }
        Secret::Hash(hash) if Passwords::supports(&hash) => (Some(hash), false),
        Secret::Hash(_) => {
            return Err(UseradmError::Unprocessable(
                "password_hash: must be an argon2id or bcrypt hash".to_owned(),
            ));
        }
        Secret::None => (None, false),
        Secret::Invite if mail::possible(inner) => (None, true),
        Secret::Invite => {
            return Err(UseradmError::Unprocessable(
                "password: must be given, this server sends no mail to set it later".to_owned(),
            ));
        }
    };
    Ok(Proof { hash, invite })
}

fn taken() -> UseradmError {
    UseradmError::Unprocessable("user with a given email already exists".to_owned())
}

fn check_id(id: Option<String>) -> Result<String, UseradmError> {
    match id {
        None => Ok(new_id().to_string()),
        Some(id)
            if (1..=ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(id)
        }
        Some(_) => Err(UseradmError::Invalid(
            "id: must be 1 to 64 visible ASCII characters.".to_owned(),
        )),
    }
}

/// Creates a user. `caller` is who is named in the audit log; none for neighbours and the command line.
pub(crate) async fn create(
    inner: &Inner,
    tenant: &TenantId,
    caller: Option<&UserIdentity>,
    new: NewUser,
) -> Result<String, UseradmError> {
    let email = Email::parse(&new.email)?;
    let login = login_text(new.login.as_ref())?;
    let id = check_id(new.id)?;
    if inner.parts.tenants.facts(tenant).await?.is_none() {
        return Err(UseradmError::NotFound("tenant not found"));
    }
    let roles = match new.roles.is_empty() {
        true => role::default_roles(),
        false => new.roles,
    };
    let gifts = role::give(inner, tenant, &id, &roles).await?;
    let proof = prove(inner, &email, new.secret).await?;
    let now_ms = inner.now_ms();
    let mut batch = vec![store::user::insert(
        tenant.as_str(),
        &id,
        email.as_str(),
        proof.hash,
        login,
        now_ms,
    )];
    batch.extend(gifts);
    if proof.invite {
        batch.push(mail::ask(inner, &email, mail::Purpose::Invite));
    }
    if let Some(caller) = caller {
        let object = Object::user(&id, email.as_str());
        batch.push(audit::record(inner, caller, "create", object, None).await?);
    }
    inner.db().apply(batch).await.map_err(|error| match error {
        DbError::Conflict { .. } => role_gone(),
        other => duplicate(other),
    })?;
    inner.parts.jobs.wake();
    if new.propagate {
        let told = inner.parts.tenants.user_saved(tenant, &id, email.as_str());
        told.await?;
    }
    Ok(id)
}

fn role_gone() -> UseradmError {
    UseradmError::Unprocessable("one of the roles was removed just now".to_owned())
}

pub(crate) async fn list(
    inner: &Inner,
    tenant: &TenantId,
    filter: &Filter,
) -> Result<Vec<User>, UseradmError> {
    let mut users = store::user::all(inner.db(), tenant.as_str()).await?;
    users.retain(|user| filter.admits(user));
    let mut roles: HashMap<String, Vec<String>> = HashMap::new();
    for (user, role) in store::role::of_tenant(inner.db(), tenant.as_str()).await? {
        roles.entry(user).or_default().push(role);
    }
    for user in &mut users {
        user.roles = roles.remove(&user.id).unwrap_or_default();
    }
    Ok(users)
}

pub(crate) async fn get(inner: &Inner, tenant: &TenantId, id: &str) -> Result<User, UseradmError> {
    Ok(stored(inner, tenant, id).await?.user)
}

async fn stored(
    inner: &Inner,
    tenant: &TenantId,
    id: &str,
) -> Result<store::user::Stored, UseradmError> {
    let mut found = store::user::by_id(inner.db(), tenant.as_str(), id)
        .await?
        .ok_or(UseradmError::NotFound("user not found"))?;
    found.user.roles = store::role::of_user(inner.db(), tenant.as_str(), id).await?;
    Ok(found)
}

/// Changes a user. A new password ends all sessions of the user except the one that asks.
pub(crate) async fn update(
    inner: &Inner,
    caller: &UserIdentity,
    id: &str,
    change: Change,
) -> Result<(), UseradmError> {
    if change.is_empty() {
        return Err(UseradmError::Invalid(
            "no update information provided".to_owned(),
        ));
    }
    let email = change.email.as_deref().map(Email::parse).transpose()?;
    let login = login_text(change.login.as_ref())?;
    let (tenant, now_ms) = (caller.tenant.as_str(), inner.now_ms());
    let before = stored(inner, &caller.tenant, id).await?;
    let mut after = before.user.clone();
    // The touch of the user's row comes first: that it is gone is told by the index of the conflict.
    let mut batch = vec![store::user::touch(tenant, id, now_ms)];
    if let Some(roles) = change.roles.filter(|roles| *roles != before.user.roles) {
        if roles.is_empty() {
            return Err(UseradmError::Unprocessable(
                "roles: cannot be empty".to_owned(),
            ));
        }
        may_give_roles(inner, caller, id).await?;
        batch.extend(role::give(inner, &caller.tenant, id, &roles).await?);
        after.roles = roles;
    }
    if let Some(clear) = change.current_password {
        check_current(inner, caller, &before, clear).await?;
    }
    if let Some(email) = email.as_ref().filter(|e| e.as_str() != before.user.email) {
        batch.push(store::user::set_email(tenant, id, email.as_str()));
        batch.push(store::secret::delete_user(tenant, id));
        after.email = email.as_str().to_owned();
        after.verified = false;
        after.two_factor = TwoFactorStatus::Disabled;
    }
    let new_password = change.password.is_some();
    if let Some(clear) = change.password {
        password::check(&clear, &Email::parse(&after.email)?)?;
        let hash = inner.passwords.hash(clear).await?;
        batch.push(store::user::set_password(tenant, id, &hash));
        batch.push(store::secret::delete_user(tenant, id));
        let keep = caller.jti.to_string();
        batch.push(store::token::delete_others(tenant, id, &keep));
    }
    if let Some(login) = login {
        batch.push(store::user::set_login(tenant, id, &login));
        after.login = change.login;
    }
    let told = tell(&before.user, &after, new_password);
    let object = Object::user(id, after.email.as_str());
    batch.push(audit::record(inner, caller, "update", object, Some(told)).await?);
    inner.db().apply(batch).await.map_err(|error| match error {
        DbError::Conflict { index: 0 } => UseradmError::NotFound("user not found"),
        DbError::Conflict { .. } => role_gone(),
        other => duplicate(other),
    })?;
    inner.parts.jobs.wake();
    if let Some(email) = email {
        let told = inner
            .parts
            .tenants
            .user_saved(&caller.tenant, id, email.as_str());
        told.await?;
    }
    Ok(())
}

/// What the audit log says of a change (reference: audit logs).
fn tell(before: &User, after: &User, new_password: bool) -> String {
    let show = |user: &User, password: &str| {
        let login = user.login.as_ref();
        serde_json::json!({
            "email": user.email, "login": login, "password": password, "roles": user.roles,
            "tfa_status": user.two_factor.name(), "verified": user.verified,
        })
    };
    let password = if new_password {
        "(another secret)"
    } else {
        "(secret)"
    };
    format!(
        "Updated user {}:\n{}",
        before.email,
        audit::diff(&show(before, "(secret)"), &show(after, password))
    )
}

/// Everybody may change the own account, but not make himself more than others made him.
async fn may_give_roles(
    inner: &Inner,
    caller: &UserIdentity,
    id: &str,
) -> Result<(), UseradmError> {
    let uri = format!("/api/management/v1/useradm/users/{id}");
    match access::opened_by_roles(inner, caller, "PUT", &uri).await? {
        true => Ok(()),
        false => Err(UseradmError::Forbidden(FORBIDDEN)),
    }
}

async fn check_current(
    inner: &Inner,
    caller: &UserIdentity,
    user: &store::user::Stored,
    clear: String,
) -> Result<(), UseradmError> {
    let bucket = two_factor::bucket(&caller.tenant, &user.user.id);
    inner.throttles.second.charge(&bucket, inner.now_ms())?;
    let hash = user.password_hash.clone();
    if !inner.passwords.verify(clear, hash).await? {
        return Err(UseradmError::Unprocessable(
            "current password mismatch".to_owned(),
        ));
    }
    inner.throttles.second.forgive(&bucket);
    Ok(())
}

/// Changes the own password (version 2 of the API): the present one must be told.
pub(crate) async fn change_password(
    inner: &Inner,
    caller: &UserIdentity,
    change: OwnPasswordUpdate,
) -> Result<(), UseradmError> {
    let Some(password) = change.password else {
        return Err(UseradmError::Invalid(
            "no update information provided".to_owned(),
        ));
    };
    let change = Change {
        password: Some(password),
        current_password: Some(change.current_password.unwrap_or_default()),
        ..Change::default()
    };
    update(inner, caller, &caller.user_id, change).await
}

pub(crate) async fn set_password(
    inner: &Inner,
    email: &str,
    clear: String,
) -> Result<(), UseradmError> {
    let email = Email::parse(email)?;
    password::check(&clear, &email)?;
    let stored = store::user::by_email(inner.db(), email.as_str())
        .await?
        .ok_or(UseradmError::NotFound("user not found"))?;
    let hash = inner.passwords.hash(clear).await?;
    let (tenant, id) = (stored.tenant.as_str(), stored.user.id.as_str());
    inner
        .db()
        .apply(vec![
            store::user::touch(tenant, id, inner.now_ms()),
            store::user::set_password(tenant, id, &hash),
            store::secret::delete_user(tenant, id),
            store::token::delete_all(tenant, Some(id)),
        ])
        .await
        .map_err(duplicate)?;
    Ok(())
}

/// The statements that remove a user with all that is his.
pub(super) fn removal(tenant: &TenantId, id: &str) -> Vec<Statement> {
    let tenant = tenant.as_str();
    vec![
        store::user::delete(tenant, id),
        store::token::delete_all(tenant, Some(id)),
        store::role::clear(tenant, id),
        store::secret::delete_user(tenant, id),
        store::settings::delete_own(tenant, id),
    ]
}

/// Deletes a user with all that is his; one who does not exist is no error.
pub(crate) async fn delete(
    inner: &Inner,
    tenant: &TenantId,
    caller: Option<&UserIdentity>,
    id: &str,
) -> Result<(), UseradmError> {
    let tenant_id = tenant.as_str();
    let known = store::user::by_id(inner.db(), tenant_id, id).await?;
    let mut batch = removal(tenant, id);
    if let (Some(caller), Some(known)) = (caller, known) {
        let object = Object::user(id, known.user.email);
        batch.push(audit::record(inner, caller, "delete", object, None).await?);
    }
    inner.db().apply(batch).await?;
    inner.parts.jobs.wake();
    inner.parts.tenants.user_deleted(tenant, id).await?;
    Ok(())
}
