//! Creating, verifying and changing tenants.

use ambidex_access::Claims;
use ambidex_db::DbError;
use ambidex_wire::management::tenantadm::{Addon, TenantApiLimits, TenantUpdate};
use rand::RngCore as _;

use super::{Plan, Status, Tenant};
use crate::{Inner, TenantadmError, store};

const NAME_BYTES_MAX: usize = 256;
const ADDONS: [&str; 3] = ["configure", "troubleshoot", "monitor"];
/// Changes of one tenant at the same time are rare; more tries would hide a mistake.
const TRIES: usize = 5;

/// Four bytes of time and eight of chance, as the reference's ids look.
fn new_id(now_ms: i64) -> String {
    let seconds = u32::try_from(now_ms.div_euclid(1000)).unwrap_or(u32::MAX);
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    rand::rngs::OsRng.fill_bytes(&mut bytes[4..]);
    hex::encode(bytes)
}

fn check_name(name: &str) -> Result<(), TenantadmError> {
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(TenantadmError::Invalid(
            "name: must be 1 to 256 bytes of printable text".to_owned(),
        ));
    }
    Ok(())
}

pub(crate) async fn create(
    inner: &Inner,
    name: &str,
    plan: Plan,
) -> Result<Tenant, TenantadmError> {
    check_name(name)?;
    let created_ms = inner.clock.now_ms();
    let id = new_id(created_ms);
    let tenant = Tenant {
        token: inner.keys.sign(&Claims::tenant_token(&id))?,
        id,
        name: name.to_owned(),
        status: Status::Active,
        plan,
        trial: false,
        trial_expiration_ms: None,
        addons: ADDONS
            .map(|name| Addon {
                name: name.to_owned(),
                enabled: plan == Plan::Enterprise,
            })
            .into(),
        api_limits: TenantApiLimits::default(),
        created_ms,
    };
    inner.db.apply(vec![store::tenant::insert(&tenant)]).await?;
    inner
        .accounts
        .limit_devices(&tenant.id, plan.device_limit())
        .await?;
    Ok(tenant)
}

pub(crate) async fn get(inner: &Inner, id: &str) -> Result<Tenant, TenantadmError> {
    store::tenant::by_id(&inner.db, id)
        .await?
        .ok_or(TenantadmError::NotFound("tenant not found"))
}

pub(crate) async fn verify_token(inner: &Inner, token: &str) -> Result<Tenant, TenantadmError> {
    const INVALID: TenantadmError = TenantadmError::Unauthorized("tenant_token is invalid");
    let claims = inner.keys.verify(token).map_err(|_| INVALID)?;
    // Users and devices have tokens with a tenant too; theirs open nothing here.
    if claims.user.is_some() || claims.device.is_some() {
        return Err(INVALID);
    }
    let id = claims.tenant.ok_or(INVALID)?;
    let tenant = store::tenant::by_id(&inner.db, &id).await?.ok_or(INVALID)?;
    match tenant.status {
        Status::Active => Ok(tenant),
        Status::Suspended => Err(TenantadmError::Unauthorized("Account suspended")),
        Status::Inactive => Err(TenantadmError::Unauthorized("Account inactive")),
    }
}

/// Reads, lets `change` decide, writes; again when somebody else wrote in between. Returns before and
/// after.
async fn change(
    inner: &Inner,
    id: &str,
    change: impl Fn(&mut Tenant) -> Result<(), TenantadmError>,
) -> Result<(Tenant, Tenant), TenantadmError> {
    let mut tries = 0;
    loop {
        let old = get(inner, id).await?;
        let mut new = old.clone();
        change(&mut new)?;
        match inner
            .db
            .apply(vec![store::tenant::update(&old, &new)])
            .await
        {
            Ok(_) => return Ok((old, new)),
            Err(DbError::Conflict { .. }) if tries < TRIES => tries += 1,
            Err(other) => return Err(other.into()),
        }
    }
}

pub(crate) async fn update(
    inner: &Inner,
    id: &str,
    update: TenantUpdate,
) -> Result<(), TenantadmError> {
    let invalid = |text: &str| TenantadmError::Invalid(text.to_owned());
    let plan = match &update.plan {
        None => None,
        Some(name) => Some(Plan::parse(name).ok_or_else(|| invalid("plan: unknown plan"))?),
    };
    let expiration = match &update.trial_expiration {
        None => None,
        Some(text) => Some(
            text.parse::<jiff::Timestamp>()
                .map_err(|_| invalid("trial_expiration: not an RFC 3339 time"))?
                .as_millisecond(),
        ),
    };
    if let Some(name) = &update.name {
        check_name(name)?;
    }
    let known = |addon: &Addon| ADDONS.contains(&addon.name.as_str());
    if !update.addons.iter().flatten().all(known) {
        return Err(invalid("addons: unknown addon"));
    }
    let (old, new) = change(inner, id, |tenant| {
        if let Some(name) = &update.name {
            tenant.name.clone_from(name);
        }
        if let Some(plan) = plan {
            tenant.plan = plan;
        }
        if let Some(trial) = update.trial {
            tenant.trial = trial;
        }
        if let Some(ms) = expiration {
            tenant.trial_expiration_ms = Some(ms);
        }
        if let Some(addons) = &update.addons {
            tenant.addons.clone_from(addons);
        }
        if let Some(limits) = &update.api_limits {
            tenant.api_limits.clone_from(limits);
        }
        Ok(())
    })
    .await?;
    if old.plan != new.plan {
        inner
            .accounts
            .limit_devices(id, new.plan.device_limit())
            .await?;
    }
    if old.plan != new.plan || old.addons != new.addons || old.trial != new.trial {
        inner.accounts.revoke_tokens(id).await?;
    }
    Ok(())
}

/// Suspends or re-activates. The status is written first: from then on no token counts, even if the
/// server dies before they are deleted.
pub(crate) async fn set_status(
    inner: &Inner,
    id: &str,
    status: &str,
) -> Result<(), TenantadmError> {
    let status = match Status::parse(status) {
        Some(status @ (Status::Active | Status::Suspended)) => status,
        _ => {
            return Err(TenantadmError::Invalid(
                "status: must be one of active, suspended".to_owned(),
            ));
        }
    };
    change(inner, id, |tenant| {
        tenant.status = status;
        Ok(())
    })
    .await?;
    if status == Status::Suspended {
        inner.accounts.revoke_tokens(id).await?;
    }
    Ok(())
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
