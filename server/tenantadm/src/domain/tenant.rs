//! Verifying and changing tenants.

use ambidex_db::{DbError, Statement};
use ambidex_wire::management::tenantadm::{ApiLimits, TenantApiLimits, TenantUpdate};

use super::{ADDONS, Pending, Plan, Status, Tenant, pending};
use crate::{Inner, TenantadmError, store};

const NAME_BYTES_MAX: usize = 256;
/// Burst rules of one kind of API: each call of the kind is compared with all of them.
const BURSTS_MAX: usize = 100;
/// Changes of one tenant at the same time are rare; more tries would hide a mistake.
const TRIES: usize = 5;

pub(super) fn check_name(name: &str) -> Result<(), TenantadmError> {
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(TenantadmError::Invalid(
            "name: must be 1 to 256 bytes of printable text".to_owned(),
        ));
    }
    Ok(())
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
    match tenant.status_at(inner.clock.now_ms()) {
        Status::Active => Ok(tenant),
        Status::Suspended => Err(TenantadmError::Unauthorized("Account suspended")),
        Status::Inactive => Err(TenantadmError::Unauthorized("Account inactive")),
    }
}

/// Reads, lets `change` decide, writes; again when somebody else wrote in between. Returns before and
/// after.
pub(super) async fn change(
    inner: &Inner,
    id: &str,
    change: impl Fn(&mut Tenant) -> Result<(), TenantadmError>,
) -> Result<(Tenant, Tenant), TenantadmError> {
    change_and(inner, id, change, |_| Vec::new()).await
}

/// Like [`change`], with statements that stand or fall with it.
pub(super) async fn change_and(
    inner: &Inner,
    id: &str,
    change: impl Fn(&mut Tenant) -> Result<(), TenantadmError>,
    more: impl Fn(&Tenant) -> Vec<Statement>,
) -> Result<(Tenant, Tenant), TenantadmError> {
    let mut tries = 0;
    loop {
        let old = get(inner, id).await?;
        if old.pending.has(Pending::REMOVE) {
            return Err(TenantadmError::NotFound("tenant not found"));
        }
        let mut new = old.clone();
        change(&mut new)?;
        let mut batch = vec![store::tenant::update(&new, inner.clock.now_ms())];
        batch.extend(more(&new));
        match inner.db.apply(batch).await {
            Ok(_) => {
                inner.standings.changed();
                new.version += 1;
                return Ok((old, new));
            }
            Err(DbError::Conflict { .. }) if tries < TRIES => tries += 1,
            Err(other) => return Err(other.into()),
        }
    }
}

fn check_limits(limits: &TenantApiLimits) -> Result<(), TenantadmError> {
    let invalid = |text: &str| Err(TenantadmError::Invalid(format!("api_limits: {text}")));
    for ApiLimits { bursts, quota } in [&limits.management, &limits.devices] {
        if bursts.len() > BURSTS_MAX {
            return invalid("at most 100 bursts");
        }
        if quota.max_calls > 0 && quota.interval_sec == 0 {
            return invalid("interval_sec must be positive when max_calls is");
        }
        for burst in bursts {
            if !burst.uri.starts_with('/') || burst.uri.contains(['?', '#']) {
                return invalid("the uri of a burst must be a path");
            }
            if http::Method::from_bytes(burst.action.as_bytes()).is_err() {
                return invalid("the action of a burst must be an HTTP method");
            }
        }
    }
    Ok(())
}

/// An update that was read and found right.
struct Wanted {
    name: Option<String>,
    plan: Option<Plan>,
    trial: Option<bool>,
    expiration_ms: Option<Option<i64>>,
    update: TenantUpdate,
}

impl Wanted {
    fn check(update: TenantUpdate) -> Result<Wanted, TenantadmError> {
        let invalid = |text: &str| TenantadmError::Invalid(text.to_owned());
        let plan = match &update.plan {
            None => None,
            Some(name) => Some(Plan::parse(name).ok_or_else(|| invalid("plan: unknown plan"))?),
        };
        let expiration_ms = match &update.trial_expiration {
            None => None,
            Some(None) => Some(None),
            Some(Some(text)) => Some(Some(
                text.parse::<jiff::Timestamp>()
                    .map_err(|_| invalid("trial_expiration: not an RFC 3339 time"))?
                    .as_millisecond(),
            )),
        };
        if let Some(name) = &update.name {
            check_name(name)?;
        }
        let mut addons = update.addons.iter().flatten();
        if !addons.all(|addon| ADDONS.contains(&addon.name.as_str())) {
            return Err(invalid("addons: unknown addon"));
        }
        if let Some(limits) = &update.api_limits {
            check_limits(limits)?;
        }
        Ok(Wanted {
            name: update.name.clone(),
            plan,
            trial: update.trial,
            expiration_ms,
            update,
        })
    }

    fn apply(&self, tenant: &mut Tenant) {
        let old = tenant.clone();
        if let Some(name) = &self.name {
            tenant.name.clone_from(name);
        }
        if let Some(plan) = self.plan {
            tenant.plan = plan;
            // Whatever was asked for is decided.
            tenant.requested_plan = None;
        }
        if let Some(trial) = self.trial {
            tenant.trial = trial;
        }
        if let Some(ms) = self.expiration_ms {
            tenant.trial_expiration_ms = ms;
        }
        if let Some(addons) = &self.update.addons {
            tenant.addons.clone_from(addons);
        }
        if let Some(limits) = &self.update.api_limits {
            tenant.api_limits.clone_from(limits);
        }
        if old.plan != tenant.plan {
            tenant.pending = tenant.pending.and(Pending::LIMIT);
        }
        // Tokens carry these.
        if old.plan != tenant.plan || old.addons != tenant.addons || old.trial != tenant.trial {
            tenant.pending = tenant.pending.and(Pending::REVOKE);
        }
    }
}

pub(crate) async fn update(
    inner: &Inner,
    id: &str,
    update: TenantUpdate,
) -> Result<(), TenantadmError> {
    let wanted = Wanted::check(update)?;
    change(inner, id, |tenant| {
        wanted.apply(tenant);
        Ok(())
    })
    .await?;
    pending::finish(inner, id).await
}

/// Suspends or activates, as an operator does.
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
    let now_ms = inner.clock.now_ms();
    change(inner, id, |tenant| {
        match status {
            Status::Active => activate(tenant, now_ms),
            _ => suspend(tenant, now_ms),
        }
        Ok(())
    })
    .await?;
    pending::finish(inner, id).await
}

/// From then on the account counts, whatever suspended it before.
fn activate(tenant: &mut Tenant, now_ms: i64) {
    tenant.status = Status::Active;
    tenant.cancel_at_ms = None;
    tenant.cancel_reason = None;
    note_end_of_trial(tenant, now_ms);
}

/// The status is written first: from then on no token counts, even if the server dies before they are
/// deleted.
pub(super) fn suspend(tenant: &mut Tenant, now_ms: i64) {
    tenant.status = Status::Suspended;
    tenant.cancel_at_ms = None;
    tenant.pending = tenant.pending.and(Pending::REVOKE);
    note_end_of_trial(tenant, now_ms);
}

/// An end that has passed suspends once, not again and again.
fn note_end_of_trial(tenant: &mut Tenant, now_ms: i64) {
    if let Some(end) = tenant.trial_expiration_ms.filter(|end| *end <= now_ms) {
        tenant.ended_ms = end;
    }
}

/// Suspends accounts whose trial or notice is over; returns how many.
pub(crate) async fn end_due(inner: &Inner) -> Result<usize, TenantadmError> {
    let now_ms = inner.clock.now_ms();
    let mut ended = 0;
    for id in store::tenant::due(&inner.db, now_ms).await? {
        let changed = change(inner, &id, |tenant| {
            // Somebody may have extended it since it was found.
            if tenant.status == Status::Active && tenant.status_at(now_ms) == Status::Suspended {
                suspend(tenant, now_ms);
            }
            Ok(())
        })
        .await;
        match changed {
            Ok((old, new)) if old.status != new.status => {
                tracing::info!(tenant = %id, "the account is suspended: its trial or notice is over");
                ended += 1;
            }
            Ok(_) | Err(TenantadmError::NotFound(_)) => {}
            Err(other) => return Err(other),
        }
        pending::finish(inner, &id).await?;
    }
    Ok(ended)
}
