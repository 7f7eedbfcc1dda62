//! Creating, finding, changing and deleting users.

use ambidex_access::{Passwords, TenantId, UserIdentity};
use ambidex_db::DbError;
use ambidex_kit::new_id;
use serde_json::{Map, Value};

use super::{Email, NewUser, Secret, User, password};
use crate::{Inner, UseradmError, store};

/// Ids given from outside (imports, tests of other systems), in bytes.
const ID_BYTES_MAX: usize = 64;
/// The one role there is: everything. A user without roles has it too.
const FULL_ACCESS: &str = "RBAC_ROLE_PERMIT_ALL";

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
}

fn duplicate(error: DbError) -> UseradmError {
    match error {
        DbError::UniqueViolation { constraint } if constraint.contains("email") => {
            UseradmError::Unprocessable("user with a given email already exists".to_owned())
        }
        DbError::UniqueViolation { .. } => {
            UseradmError::Unprocessable("user with a given id already exists".to_owned())
        }
        DbError::Conflict { .. } => UseradmError::NotFound("user not found"),
        other => other.into(),
    }
}

fn check_roles(roles: &[String]) -> Result<(), UseradmError> {
    match roles.iter().find(|role| *role != FULL_ACCESS) {
        None => Ok(()),
        Some(role) => Err(UseradmError::Unprocessable(format!(
            "role {role} does not exist: this server knows {FULL_ACCESS} only"
        ))),
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

pub(crate) async fn create(
    inner: &Inner,
    tenant: &TenantId,
    new: NewUser,
) -> Result<String, UseradmError> {
    let email = Email::parse(&new.email)?;
    check_roles(&new.roles)?;
    let login = login_text(new.login.as_ref())?;
    let id = match new.id {
        None => new_id().to_string(),
        Some(id)
            if (1..=ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            id
        }
        Some(_) => {
            return Err(UseradmError::Invalid(
                "id: must be 1 to 64 visible ASCII characters.".to_owned(),
            ));
        }
    };
    if inner.tenants.facts(tenant).await?.is_none() {
        return Err(UseradmError::NotFound("tenant not found"));
    }
    let hash = match new.secret {
        Secret::Password(clear) => {
            password::check(&clear)?;
            // The costly hash comes after the cheap refusal; the database has the last word.
            if store::user::by_email(&inner.db, email.as_str())
                .await?
                .is_some()
            {
                return Err(UseradmError::Unprocessable(
                    "user with a given email already exists".to_owned(),
                ));
            }
            Some(inner.passwords.hash(clear).await?)
        }
        Secret::Hash(hash) if Passwords::supports(&hash) => Some(hash),
        Secret::Hash(_) => {
            return Err(UseradmError::Unprocessable(
                "password_hash: must be an argon2id or bcrypt hash".to_owned(),
            ));
        }
        Secret::None => None,
    };
    let now_ms = inner.clock.now_ms();
    inner
        .db
        .apply(vec![store::user::insert(
            tenant.as_str(),
            &id,
            email.as_str(),
            hash,
            login,
            now_ms,
        )])
        .await
        .map_err(duplicate)?;
    if new.propagate {
        inner
            .tenants
            .user_saved(tenant, &id, email.as_str())
            .await?;
    }
    Ok(id)
}

pub(crate) async fn list(
    inner: &Inner,
    tenant: &TenantId,
    filter: &Filter,
) -> Result<Vec<User>, UseradmError> {
    let mut users = store::user::all(&inner.db, tenant.as_str()).await?;
    users.retain(|user| filter.admits(user));
    Ok(users)
}

pub(crate) async fn get(inner: &Inner, tenant: &TenantId, id: &str) -> Result<User, UseradmError> {
    store::user::by_id(&inner.db, tenant.as_str(), id)
        .await?
        .map(|stored| stored.user)
        .ok_or(UseradmError::NotFound("user not found"))
}

/// Changes a user. A new password ends all sessions of the user except the one that asks.
pub(crate) async fn update(
    inner: &Inner,
    caller: &UserIdentity,
    id: &str,
    change: Change,
) -> Result<(), UseradmError> {
    if change.email.is_none()
        && change.password.is_none()
        && change.login.is_none()
        && change.roles.is_none()
    {
        return Err(UseradmError::Invalid(
            "no update information provided".to_owned(),
        ));
    }
    let email = change.email.as_deref().map(Email::parse).transpose()?;
    if let Some(roles) = &change.roles {
        if roles.is_empty() {
            return Err(UseradmError::Unprocessable(
                "roles: cannot be empty".to_owned(),
            ));
        }
        check_roles(roles)?;
    }
    let login = login_text(change.login.as_ref())?;
    let tenant = caller.tenant.as_str();
    get(inner, &caller.tenant, id).await?;
    let mut batch = Vec::new();
    let mut hash = None;
    if let Some(clear) = change.password {
        password::check(&clear)?;
        hash = Some(inner.passwords.hash(clear).await?);
        batch.push(store::token::delete_others(
            tenant,
            id,
            &caller.jti.to_string(),
        ));
    }
    let address = email.as_ref().map(|email| email.as_str().to_owned());
    let now_ms = inner.clock.now_ms();
    batch.push(store::user::update(
        tenant, id, address, hash, login, now_ms,
    ));
    inner.db.apply(batch).await.map_err(duplicate)?;
    if let Some(email) = email {
        inner
            .tenants
            .user_saved(&caller.tenant, id, email.as_str())
            .await?;
    }
    Ok(())
}

pub(crate) async fn set_password(
    inner: &Inner,
    email: &str,
    clear: String,
) -> Result<(), UseradmError> {
    let email = Email::parse(email)?;
    password::check(&clear)?;
    let stored = store::user::by_email(&inner.db, email.as_str())
        .await?
        .ok_or(UseradmError::NotFound("user not found"))?;
    let hash = inner.passwords.hash(clear).await?;
    let (tenant, id) = (stored.tenant.as_str(), stored.user.id.as_str());
    let now_ms = inner.clock.now_ms();
    inner
        .db
        .apply(vec![
            store::user::update(tenant, id, None, Some(hash), None, now_ms),
            store::token::delete_all(tenant, Some(id)),
        ])
        .await
        .map_err(duplicate)?;
    Ok(())
}

/// Deletes a user with all sessions; one who does not exist is no error.
pub(crate) async fn delete(inner: &Inner, tenant: &TenantId, id: &str) -> Result<(), UseradmError> {
    inner
        .db
        .apply(vec![
            store::user::delete(tenant.as_str(), id),
            store::token::delete_all(tenant.as_str(), Some(id)),
        ])
        .await?;
    inner.tenants.user_deleted(tenant, id).await?;
    Ok(())
}
