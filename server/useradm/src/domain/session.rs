//! Logging in and out.

use ambidex_access::{Claims, TenantId, UserClaims, UserIdentity};
use ambidex_db::DbError;
use ambidex_kit::new_id;

use super::Email;
use crate::{Inner, UseradmError, store};

/// Checks name and password and issues a token. An unknown name and a wrong password are told apart
/// neither by the answer nor by the time it takes.
pub(crate) async fn login(
    inner: &Inner,
    email: &str,
    password: String,
    expires: bool,
) -> Result<String, UseradmError> {
    const REFUSED: UseradmError = UseradmError::Unauthorized("unauthorized");
    let stored = match Email::parse(email) {
        Ok(email) => store::user::by_email(&inner.db, email.as_str()).await?,
        Err(_) => None,
    };
    let hash = stored.as_ref().and_then(|s| s.password_hash.clone());
    let right = inner.passwords.verify(password, hash).await?;
    let Some(stored) = stored.filter(|_| right) else {
        return Err(REFUSED);
    };
    let tenant = TenantId::new(stored.tenant);
    let facts = inner.tenants.facts(&tenant).await?.ok_or(REFUSED)?;
    if let Some(reason) = facts.barred {
        return Err(UseradmError::Unauthorized(reason));
    }
    let jti = new_id();
    let user = stored.user.id;
    let now_ms = inner.clock.now_ms();
    let now_s = now_ms.div_euclid(1000);
    let expires_s = expires.then(|| now_s.saturating_add(inner.settings.token_lifetime_s));
    let token = inner.keys.sign(&Claims::user(UserClaims {
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
    let outcome = inner
        .db
        .apply(vec![
            store::user::logged_in(id, &user, now_ms),
            store::token::insert(id, &user, &jti, now_ms, expires_ms),
            store::token::trim(id, &user, now_ms, inner.settings.sessions_max),
        ])
        .await;
    match outcome {
        Ok(_) => Ok(token),
        // Deleted between the check and now.
        Err(DbError::Conflict { .. }) => Err(REFUSED),
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn logout(inner: &Inner, user: &UserIdentity) -> Result<(), UseradmError> {
    let jti = user.jti.to_string();
    inner
        .db
        .apply(vec![store::token::delete(
            user.tenant.as_str(),
            &user.user_id,
            &jti,
        )])
        .await?;
    Ok(())
}
