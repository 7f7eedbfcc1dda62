//! Personal access tokens: tokens for programs, with a name, listed and revoked one by one. They may do what their
//! user may do, and end when the user's password changes.

use ambidex_access::{Claims, UserClaims, UserIdentity};
use ambidex_db::DbError;
use ambidex_kit::new_id;
use ambidex_wire::management::useradm::PersonalTokenNew;

use crate::store::token::Personal;
use crate::{Inner, UseradmError, store};

/// Tokens of one user (reference: section 7).
const TOKENS_MAX: u32 = 10;
const NAME_CHARS_MAX: usize = 4096;
/// A year.
const LIFETIME_S_MAX: i64 = 31_536_000;

/// Makes a token and returns it; it is never shown again.
pub(crate) async fn issue(
    inner: &Inner,
    caller: &UserIdentity,
    new: PersonalTokenNew,
) -> Result<String, UseradmError> {
    let invalid = |text: String| UseradmError::Invalid(text);
    if new.name.is_empty() {
        return Err(invalid("name: cannot be blank.".to_owned()));
    }
    if new.name.chars().count() > NAME_CHARS_MAX {
        return Err(invalid(format!(
            "name: the length must be no more than {NAME_CHARS_MAX}."
        )));
    }
    let lifetime_s = new.expires_in.unwrap_or(0);
    if !(0..=LIFETIME_S_MAX).contains(&lifetime_s) {
        return Err(invalid(format!(
            "expires_in: must be no less than 0 and no greater than {LIFETIME_S_MAX}."
        )));
    }
    let facts = inner.parts.tenants.facts(&caller.tenant).await?;
    let facts = facts.ok_or(UseradmError::Unauthorized("unauthorized"))?;
    let now_ms = inner.now_ms();
    let now_s = now_ms.div_euclid(1000);
    let expires_s = (lifetime_s > 0).then(|| now_s + lifetime_s);
    let jti = new_id();
    let token = inner.parts.keys.sign(&Claims::user(UserClaims {
        jti,
        sub: caller.user_id.clone(),
        tenant: caller.tenant.claim(),
        plan: facts.plan,
        trial: facts.trial,
        addons: facts.addons,
        issued_s: now_s,
        expires_s,
    }))?;
    let (tenant, user) = (caller.tenant.as_str(), caller.user_id.as_str());
    let row = Personal {
        id: jti.to_string(),
        name: new.name,
        created_ms: now_ms,
        expires_ms: expires_s.map(|s| s.saturating_mul(1000)),
        last_used_ms: None,
    };
    let batch = vec![
        // Holds the user's row: two requests at once cannot both take the last place.
        store::user::hold(tenant, user),
        store::token::delete_expired(tenant, user, now_ms),
        store::token::insert_personal(tenant, user, &row, TOKENS_MAX),
    ];
    match inner.db().apply(batch).await {
        Ok(_) => Ok(token),
        Err(DbError::UniqueViolation { .. }) => Err(UseradmError::Exists(
            "Personal Access Token with a given name already exists",
        )),
        Err(DbError::Conflict { index: 0 }) => Err(UseradmError::Unauthorized("unauthorized")),
        Err(DbError::Conflict { .. }) => Err(UseradmError::Unprocessable(format!(
            "maximum number of personal access tokens reached for this user ({TOKENS_MAX})"
        ))),
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn list(
    inner: &Inner,
    caller: &UserIdentity,
) -> Result<Vec<Personal>, UseradmError> {
    let (tenant, user) = (caller.tenant.as_str(), caller.user_id.as_str());
    Ok(store::token::personal(inner.db(), tenant, user, inner.now_ms()).await?)
}

/// Revokes a token at once; one that does not exist is no error.
pub(crate) async fn revoke(
    inner: &Inner,
    caller: &UserIdentity,
    id: &str,
) -> Result<(), UseradmError> {
    let (tenant, user) = (caller.tenant.as_str(), caller.user_id.as_str());
    inner
        .db()
        .apply(vec![store::token::delete_personal(tenant, user, id)])
        .await?;
    Ok(())
}
