//! New tenants with their first user.
//!
//! The tenant, the claim on the user's address and the user's record until user administration has it are
//! one batch; user administration and device authentication are told afterwards (see [`super::pending`]).

use ambidex_access::Claims;
use ambidex_db::DbError;
use ambidex_wire::management::tenantadm::{SignUp, TenantApiLimits};
use rand::RngCore as _;
use serde_json::{Map, Value};

use super::{Pending, Plan, Status, Tenant, addons, pending, tenant};
use crate::ports::PreparedUser;
use crate::settings::Billing;
use crate::{Inner, TenantadmError, store};

const DAY_MS: i64 = 86_400_000;
const ORGANIZATION_BYTES_MAX: usize = 256;
/// Other ways to log in that a user may bring.
const LOGINS_MAX: usize = 10;

/// Which of the operations asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In use at once.
    Active,
    /// In use once it is activated.
    Inactive,
    /// In use at once, with everything, for a while.
    Trial,
}

/// Four bytes of time and eight of chance, as the reference's ids look.
fn new_id(now_ms: i64) -> String {
    let seconds = u32::try_from(now_ms.div_euclid(1000)).unwrap_or(u32::MAX);
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    rand::rngs::OsRng.fill_bytes(&mut bytes[4..]);
    hex::encode(bytes)
}

fn fresh(inner: &Inner, name: &str, plan: Plan) -> Result<Tenant, TenantadmError> {
    let created_ms = inner.clock.now_ms();
    let id = new_id(created_ms);
    Ok(Tenant {
        token: inner.keys.sign(&Claims::tenant_token(&id))?,
        id,
        name: name.to_owned(),
        status: Status::Active,
        plan,
        trial: false,
        trial_expiration_ms: None,
        addons: addons(plan == Plan::Enterprise),
        api_limits: TenantApiLimits::default(),
        created_ms,
        cancel_at_ms: None,
        cancel_reason: None,
        requested_plan: None,
        ended_ms: 0,
        pending: Pending::LIMIT,
        version: 0,
    })
}

/// A tenant without users, as an operator creates it.
pub(crate) async fn create(
    inner: &Inner,
    name: &str,
    plan: Plan,
) -> Result<Tenant, TenantadmError> {
    tenant::check_name(name)?;
    let tenant = fresh(inner, name, plan)?;
    inner.db.apply(vec![store::tenant::insert(&tenant)]).await?;
    pending::finish(inner, &tenant.id).await?;
    tenant::get(inner, &tenant.id).await
}

/// A tenant with its first user, as an operator creates it.
pub(crate) async fn create_with_user(
    inner: &Inner,
    name: &str,
    plan: Plan,
    email: &str,
    password: &str,
) -> Result<Tenant, TenantadmError> {
    tenant::check_name(name)?;
    let user = inner.accounts.prepare_user(email, Some(password)).await?;
    let tenant = fresh(inner, name, plan)?;
    begin(inner, &tenant.id.clone(), tenant, user).await
}

/// A tenant that somebody signs up for.
pub(crate) async fn sign_up(
    inner: &Inner,
    kind: Kind,
    asked: SignUp,
) -> Result<Tenant, TenantadmError> {
    if !inner.settings.self_sign_up || !inner.settings.multi_tenant {
        return Err(TenantadmError::NotFound(
            "signing up is not enabled on this server",
        ));
    }
    let plan = check(&asked, kind)?;
    if let Some(recaptcha) = &inner.settings.recaptcha {
        recaptcha
            .check(asked.recaptcha.as_deref().unwrap_or_default())
            .await?;
    }
    let password = asked.password.as_deref().filter(|text| !text.is_empty());
    let mut user = inner.accounts.prepare_user(&asked.email, password).await?;
    user.login = asked.login;
    let mut tenant = fresh(inner, asked.organization.trim(), plan)?;
    match kind {
        Kind::Active => {}
        Kind::Inactive => tenant.status = Status::Inactive,
        Kind::Trial => {
            let days = i64::from(inner.settings.trial_days);
            tenant.trial = true;
            tenant.trial_expiration_ms = Some(tenant.created_ms + days * DAY_MS);
        }
    }
    // Where the operator takes money, a plan that costs is granted by the operator.
    if inner.settings.billing == Billing::Manual && kind != Kind::Trial && plan != Plan::Os {
        tenant.requested_plan = Some(plan);
        tenant.plan = Plan::Os;
        tenant.addons = addons(false);
    }
    begin(inner, &tenant.id.clone(), tenant, user).await
}

fn check(asked: &SignUp, kind: Kind) -> Result<Plan, TenantadmError> {
    let invalid = |text: &str| Err(TenantadmError::Invalid(text.to_owned()));
    let organization = asked.organization.trim();
    if organization.is_empty() || organization.len() > ORGANIZATION_BYTES_MAX {
        return invalid("organization: must be 1 to 256 characters long");
    }
    if !organization
        .bytes()
        .all(|b| b.is_ascii_graphic() || b == b' ')
    {
        return invalid("organization: must contain ASCII characters only");
    }
    let logins: Option<&Map<String, Value>> = asked.login.as_ref().filter(|map| !map.is_empty());
    match logins {
        None if asked.password.as_deref().unwrap_or_default().is_empty() => {
            return invalid("password: cannot be blank");
        }
        Some(map) if map.len() > LOGINS_MAX || !map.values().all(Value::is_string) => {
            return invalid("login: must be an object of texts");
        }
        _ => {}
    }
    let plan = match asked.plan.as_deref().filter(|name| !name.is_empty()) {
        None => Plan::Os,
        Some(name) => match Plan::parse(name) {
            Some(plan) => plan,
            None => return invalid("plan: unknown plan"),
        },
    };
    // A trial shows everything, whatever plan it may become (reference: tenants 5.1).
    Ok(if kind == Kind::Trial {
        Plan::Enterprise
    } else {
        plan
    })
}

async fn begin(
    inner: &Inner,
    id: &str,
    mut tenant: Tenant,
    user: PreparedUser,
) -> Result<Tenant, TenantadmError> {
    tenant.pending = Pending::LIMIT.and(Pending::USER);
    let login = user
        .login
        .as_ref()
        .map(|map| Value::Object(map.clone()).to_string());
    let batch = vec![
        store::tenant::insert(&tenant),
        store::user::insert(id, &user.id, &user.email, login.clone()),
        store::first_user::insert(id, &user, login),
    ];
    inner.db.apply(batch).await.map_err(|error| match error {
        DbError::UniqueViolation { .. } => {
            TenantadmError::Conflict("user with a given email already exists")
        }
        other => other.into(),
    })?;
    if let Err(error) = pending::finish(inner, id).await {
        // It is written down and will be told again; whoever signed up need not try again.
        tracing::warn!(tenant = id, %error, "neighbours are told of the new tenant later");
    }
    match tenant::get(inner, id).await {
        Err(TenantadmError::NotFound(_)) => Err(TenantadmError::Conflict(
            "user with a given email already exists",
        )),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_24_hexadecimal_digits_and_differ() {
        let (a, b) = (new_id(1_612_173_600_000), new_id(1_612_173_600_000));
        assert_eq!(a.len(), 24);
        assert_eq!(&a[..8], "6017d120");
        assert_ne!(a, b);
        assert!(a.bytes().all(|c| c.is_ascii_hexdigit()));
    }
}
