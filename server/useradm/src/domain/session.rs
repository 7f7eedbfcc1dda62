//! Logging in and out.

use ambidex_access::{Claims, TenantId, UserClaims, UserIdentity};
use ambidex_db::DbError;
use ambidex_kit::new_id;

use super::{Email, two_factor};
use crate::{Inner, UseradmError, store};

/// What a login brings.
pub(crate) struct Attempt<'a> {
    pub(crate) email: &'a str,
    pub(crate) password: String,
    /// Code of the second factor.
    pub(crate) code: Option<&'a str>,
    pub(crate) expires: bool,
    /// Where it comes from.
    pub(crate) address: &'a str,
}

const REFUSED: UseradmError = UseradmError::Unauthorized("unauthorized");

/// Checks name, password and second factor, and issues a token. An unknown name and a wrong password are told apart
/// neither by the answer nor by the time it takes.
pub(crate) async fn login(inner: &Inner, attempt: Attempt<'_>) -> Result<String, UseradmError> {
    let now_ms = inner.now_ms();
    let email = Email::parse(attempt.email).ok();
    let bucket = email
        .as_ref()
        .map(|email| format!("{}/{}", email.as_str(), attempt.address));
    if let Some(bucket) = &bucket {
        inner.throttles.login.check(bucket, now_ms)?;
    }
    let stored = match &email {
        Some(email) => store::user::by_email(inner.db(), email.as_str()).await?,
        None => None,
    };
    let hash = stored.as_ref().and_then(|s| s.password_hash.clone());
    let right = inner.passwords.verify(attempt.password, hash).await?;
    let Some(stored) = stored.filter(|_| right) else {
        if let Some(bucket) = &bucket {
            // That the bucket is empty by now is told to the next one.
            let _ = inner.throttles.login.charge(bucket, now_ms);
        }
        return Err(REFUSED);
    };
    bucket
        .iter()
        .for_each(|bucket| inner.throttles.login.forgive(bucket));
    let tenant = TenantId::new(stored.tenant.as_str());
    let facts = inner.parts.tenants.facts(&tenant).await?.ok_or(REFUSED)?;
    if let Some(reason) = facts.barred {
        return Err(UseradmError::Unauthorized(reason));
    }
    let used_up = two_factor::demand_code(inner, &stored, &facts.plan, attempt.code)?;
    let jti = new_id();
    let user = stored.user.id;
    let now_s = now_ms.div_euclid(1000);
    let expires_s = attempt
        .expires
        .then(|| now_s.saturating_add(inner.settings.token_lifetime_s));
    let token = inner.parts.keys.sign(&Claims::user(UserClaims {
        jti,
        sub: user.clone(),
        tenant: tenant.claim(),
        plan: facts.plan,
        trial: facts.trial,
        addons: facts.addons,
        issued_s: now_s,
        expires_s,
    }))?;
    let id = tenant.as_str();
    let jti = jti.to_string();
    let expires_ms = expires_s.map(|s| s.saturating_mul(1000));
    let mut batch = vec![
        store::user::logged_in(id, &user, now_ms),
        store::token::insert(id, &user, &jti, now_ms, expires_ms),
        store::token::trim(id, &user, now_ms, inner.settings.sessions_max),
    ];
    batch.extend(used_up);
    match inner.db().apply(batch).await {
        Ok(_) => Ok(token),
        // Deleted between the check and now.
        Err(DbError::Conflict { index: 0 }) => Err(REFUSED),
        Err(DbError::Conflict { .. }) => Err(UseradmError::Unauthorized(
            "the 2fa code was used before: wait for the next one",
        )),
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn logout(inner: &Inner, user: &UserIdentity) -> Result<(), UseradmError> {
    let jti = user.jti.to_string();
    inner
        .db()
        .apply(vec![store::token::delete(
            user.tenant.as_str(),
            &user.user_id,
            &jti,
        )])
        .await?;
    Ok(())
}
