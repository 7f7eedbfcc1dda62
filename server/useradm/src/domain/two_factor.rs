//! The second factor: making a secret, proving to have it, being asked for it, dropping it.
//!
//! A secret is made when the user switches the factor on; until a first code has proven that it arrived in the
//! user's phone, logins work without it. It is shown in that time only, and stored sealed.

use ambidex_access::{Plan, TenantId, UserIdentity};
use ambidex_db::{DbError, Statement};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{TwoFactorStatus, mail, plan, totp};
use crate::error::NOT_IN_PLAN;
use crate::store::user::Stored;
use crate::{Inner, UseradmError, store};

const CODE_MISSING: UseradmError = UseradmError::Unauthorized("2fa code missing");
const CODE_WRONG: UseradmError = UseradmError::Unauthorized("wrong 2fa code");

fn owner(tenant: &str, user: &str) -> String {
    format!("{tenant}/{user}")
}

fn demand_plan(caller: &UserIdentity) -> Result<(), UseradmError> {
    match plan::contains(&caller.tenant, &caller.plan, Plan::Professional) {
        true => Ok(()),
        false => Err(UseradmError::Forbidden(NOT_IN_PLAN)),
    }
}

async fn caller_row(inner: &Inner, caller: &UserIdentity) -> Result<Stored, UseradmError> {
    store::user::by_id(inner.db(), caller.tenant.as_str(), &caller.user_id)
        .await?
        .ok_or(UseradmError::NotFound("user not found"))
}

/// Whether a user may have a second factor: he must be reachable, or he could lock himself out. A server that
/// sends no mail cannot ask for proof.
fn demand_verified(inner: &Inner, user: &Stored) -> Result<(), UseradmError> {
    if user.user.verified || !mail::possible(inner) {
        Ok(())
    } else {
        Err(UseradmError::Forbidden(
            "the email address must be verified before two-factor authentication can be enabled",
        ))
    }
}

/// The statement that makes a secret, unless the user has one.
fn begin(inner: &Inner, user: &Stored) -> Result<Statement, UseradmError> {
    let mut secret = [0; totp::SECRET_BYTES];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| UseradmError::Internal("the system has no randomness to give".to_owned()))?;
    let (tenant, id) = (user.tenant.as_str(), user.user.id.as_str());
    let sealed = inner.parts.seal.seal(&owner(tenant, id), &secret)?;
    Ok(store::two_factor::begin(tenant, id, &sealed))
}

fn secret(inner: &Inner, user: &Stored) -> Result<Vec<u8>, UseradmError> {
    let sealed = user.tfa_secret.as_deref().unwrap_or_default();
    let owner = owner(&user.tenant, &user.user.id);
    Ok(inner.parts.seal.open(&owner, sealed)?)
}

/// What saved settings mean for the caller's second factor: of the per-user keys only the own one counts, so that
/// nobody switches another user's factor by saving the tenant's settings.
///
/// # Errors
/// [`UseradmError::Forbidden`] if it may not be switched on.
pub(super) async fn by_settings(
    inner: &Inner,
    caller: &UserIdentity,
    general: Option<&str>,
    own: Option<&str>,
) -> Result<Option<Statement>, UseradmError> {
    const ENABLED: Option<&str> = Some("enabled");
    if own == Some("disabled") {
        let (tenant, user) = (caller.tenant.as_str(), &caller.user_id);
        return Ok(Some(store::two_factor::disable(tenant, user)));
    }
    if general != ENABLED && own != ENABLED {
        return Ok(None);
    }
    if own == ENABLED {
        demand_plan(caller)?;
    }
    let user = caller_row(inner, caller).await?;
    demand_verified(inner, &user)?;
    match own {
        ENABLED => begin(inner, &user).map(Some),
        _ => Ok(None),
    }
}

/// Switches the caller's second factor on or off.
pub(crate) async fn switch(
    inner: &Inner,
    caller: &UserIdentity,
    on: bool,
) -> Result<(), UseradmError> {
    let change = if on {
        demand_plan(caller)?;
        let user = caller_row(inner, caller).await?;
        demand_verified(inner, &user)?;
        begin(inner, &user)?
    } else {
        store::two_factor::disable(caller.tenant.as_str(), &caller.user_id)
    };
    inner.db().apply(vec![change]).await?;
    Ok(())
}

/// The picture for the caller's phone. Only between switching on and the first code: later nobody can have the
/// secret shown.
pub(crate) async fn picture(inner: &Inner, caller: &UserIdentity) -> Result<String, UseradmError> {
    let user = caller_row(inner, caller).await?;
    if user.user.two_factor != TwoFactorStatus::Unverified {
        return Err(UseradmError::Invalid(
            "two-factor authentication does not wait for a first code".to_owned(),
        ));
    }
    totp::picture(&totp::url(&user.user.email, &secret(inner, &user)?))
}

/// Takes the first code; from now on logins need one.
pub(crate) async fn confirm(
    inner: &Inner,
    caller: &UserIdentity,
    code: &str,
) -> Result<(), UseradmError> {
    let user = caller_row(inner, caller).await?;
    if user.user.two_factor != TwoFactorStatus::Unverified {
        return Err(UseradmError::Invalid(
            "two-factor authentication does not wait for a first code".to_owned(),
        ));
    }
    let now_ms = inner.now_ms();
    let bucket = bucket(&caller.tenant, &caller.user_id);
    inner.throttles.second.charge(&bucket, now_ms)?;
    totp::matching_step(&secret(inner, &user)?, code, now_ms).ok_or(CODE_WRONG)?;
    inner.throttles.second.forgive(&bucket);
    let sealed = user.tfa_secret.as_deref().unwrap_or_default();
    let enable = store::two_factor::enable(caller.tenant.as_str(), &caller.user_id, sealed);
    match inner.db().apply(vec![enable]).await {
        Ok(_) => Ok(()),
        // Switched off and on again meanwhile: the code was for another secret.
        Err(DbError::Conflict { .. }) => Err(CODE_WRONG),
        Err(other) => Err(other.into()),
    }
}

/// What a login with the right password needs in addition: the statement that uses the code up. The factor counts
/// in plans that have it (specification: login).
pub(super) fn demand_code(
    inner: &Inner,
    user: &Stored,
    plan: &str,
    code: Option<&str>,
) -> Result<Option<Statement>, UseradmError> {
    let tenant = TenantId::new(user.tenant.as_str());
    let code = code.filter(|code| !code.is_empty());
    if !plan::contains(&tenant, plan, Plan::Professional) {
        return match code {
            None => Ok(None),
            Some(_) => Err(UseradmError::Forbidden(NOT_IN_PLAN)),
        };
    }
    if user.user.two_factor != TwoFactorStatus::Enabled {
        return Ok(None);
    }
    let code = code.ok_or(CODE_MISSING)?;
    let now_ms = inner.now_ms();
    let bucket = bucket(&tenant, &user.user.id);
    inner.throttles.second.charge(&bucket, now_ms)?;
    let step = totp::matching_step(&secret(inner, user)?, code, now_ms).ok_or(CODE_WRONG)?;
    inner.throttles.second.forgive(&bucket);
    Ok(Some(store::two_factor::use_step(
        &user.tenant,
        &user.user.id,
        step,
    )))
}

/// The bucket of guesses at what a user must know besides the token or password.
pub(super) fn bucket(tenant: &TenantId, user: &str) -> String {
    format!("{tenant}/{user}")
}
