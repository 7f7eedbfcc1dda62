//! What tenants do with their own account: activate, go, ask for a plan, write to the operator.

use ambidex_access::UserIdentity;
use ambidex_db::Statement;
use ambidex_wire::management::auditlogs::{Actor, Event, Object};
use ambidex_wire::management::tenantadm::{PlanRequest, SupportRequest};
use serde_json::json;

use super::{Pending, Plan, Status, Tenant, pending, tenant};
use crate::settings::Billing;
use crate::{Inner, TenantadmError, mails, store};

const DAY_MS: i64 = 86_400_000;
/// Longest text that a tenant may write to the operator, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
const NOT_BILLED: &str = "billing is not configured";

fn invalid(text: &str) -> TenantadmError {
    TenantadmError::Invalid(text.to_owned())
}

fn check_text(name: &str, text: &str, bytes_max: usize) -> Result<(), TenantadmError> {
    if text.trim().is_empty() {
        return Err(TenantadmError::Invalid(format!("{name}: cannot be blank")));
    }
    if text.len() > bytes_max {
        return Err(TenantadmError::Invalid(format!(
            "{name}: at most {bytes_max} bytes"
        )));
    }
    Ok(())
}

/// Removes a tenant that was never activated.
pub(crate) async fn delete_inactive(inner: &Inner, id: &str) -> Result<(), TenantadmError> {
    const KEPT: TenantadmError =
        TenantadmError::NotAllowed("the tenant cannot be removed: only inactive tenants can");
    let marked = tenant::change(inner, id, |tenant| {
        if tenant.status != Status::Inactive {
            return Err(KEPT);
        }
        tenant.pending = tenant.pending.and(Pending::REMOVE);
        Ok(())
    });
    match marked.await {
        Ok(_) => pending::finish(inner, id).await,
        Err(TenantadmError::NotFound(_)) => Err(KEPT),
        Err(other) => Err(other),
    }
}

/// Activates a tenant that signed up. `wanted` is the status of the body.
pub(crate) async fn activate(inner: &Inner, id: &str, wanted: &str) -> Result<(), TenantadmError> {
    if Status::parse(wanted) != Some(Status::Active) {
        return Err(invalid("status: must be active"));
    }
    let now_ms = inner.clock.now_ms();
    tenant::change(inner, id, |tenant| match tenant.status_at(now_ms) {
        Status::Suspended => Err(TenantadmError::Conflict("the tenant was suspended")),
        Status::Active => Ok(()),
        Status::Inactive => {
            tenant.status = Status::Active;
            Ok(())
        }
    })
    .await?;
    pending::finish(inner, id).await
}

/// The tenant's own account; another one's is not found.
fn own<'a>(user: &'a UserIdentity, id: &str) -> Result<&'a str, TenantadmError> {
    let own = user.tenant.as_str();
    if own.is_empty() || own != id {
        return Err(TenantadmError::NotFound("tenant not found"));
    }
    Ok(own)
}

/// Ends an account: a trial at once, others when the notice is over.
pub(crate) async fn cancel(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
    reason: &str,
) -> Result<(), TenantadmError> {
    let id = own(user, id)?;
    check_text("reason", reason, TEXT_BYTES_MAX)?;
    let now_ms = inner.clock.now_ms();
    let notice_ms = i64::from(inner.settings.notice_days) * DAY_MS;
    let cancelled = |tenant: &mut Tenant| {
        if tenant.status_at(now_ms) != Status::Active || tenant.cancel_at_ms.is_some() {
            return Err(TenantadmError::Conflict("the tenant is not active"));
        }
        tenant.cancel_reason = Some(reason.to_owned());
        if tenant.trial || notice_ms == 0 {
            tenant::suspend(tenant, now_ms);
        } else {
            tenant.cancel_at_ms = Some(now_ms + notice_ms);
        }
        Ok(())
    };
    let told = |tenant: &Tenant| {
        let ends = match tenant.cancel_at_ms {
            Some(ms) => format!("It will be suspended at {}.", ambidex_kit::rfc3339(ms)),
            None => "It is suspended.".to_owned(),
        };
        let text = format!(
            "The account was cancelled by its user {}. {ends}\n\nReason:\n{reason}\n",
            user.user_id
        );
        let mut batch = mails::to_support(inner, tenant, "Account cancelled", &text);
        batch.push(audited(inner, user, tenant, "cancel", reason));
        batch
    };
    tenant::change_and(inner, id, cancelled, told).await?;
    inner.jobs.wake();
    pending::finish(inner, id).await
}

/// The statement that tells the audit log.
fn audited(
    inner: &Inner,
    user: &UserIdentity,
    tenant: &Tenant,
    action: &str,
    change: &str,
) -> Statement {
    let event = Event::new(
        Actor::user(user.user_id.as_str()),
        ambidex_kit::rfc3339(inner.clock.now_ms()),
        action,
        Object::tenant(tenant.id.as_str(), tenant.name.as_str()),
    );
    ambidex_jobs::audit(&inner.jobs, &tenant.id, &event.change(change))
}

/// A trial that may be upgraded by its own user.
async fn upgradable(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
) -> Result<Tenant, TenantadmError> {
    // The operations answer 400 to whatever is wrong (specification: tenants v2).
    let found = match own(user, id) {
        Ok(id) => tenant::get(inner, id).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(tenant) if tenant.trial => Ok(tenant),
        Ok(_) => Err(invalid("the tenant is not on trial")),
        Err(TenantadmError::NotFound(text)) => Err(invalid(text)),
        Err(other) => Err(other),
    }
}

/// Begins the upgrade of a trial. There is nothing to pay by card, so there is no secret either.
pub(crate) async fn start_upgrade(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
) -> Result<Tenant, TenantadmError> {
    let tenant = upgradable(inner, user, id).await?;
    match inner.settings.billing {
        Billing::None => Err(invalid(NOT_BILLED)),
        Billing::Manual => Ok(tenant),
    }
}

/// Asks the operator to turn a trial into a plan.
pub(crate) async fn complete_upgrade(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
    plan: &str,
) -> Result<(), TenantadmError> {
    let plan = Plan::parse(plan).ok_or_else(|| invalid("plan: unknown plan"))?;
    upgradable(inner, user, id).await?;
    if inner.settings.billing == Billing::None {
        return Err(invalid(NOT_BILLED));
    }
    let text = format!(
        "The trial asks to become the plan {}. Grant it with\n\n  ambidex-server tenant set-plan {id} {}\n",
        plan.name(),
        plan.name()
    );
    ask_for_plan(inner, user, plan, &text).await
}

async fn ask_for_plan(
    inner: &Inner,
    user: &UserIdentity,
    plan: Plan,
    text: &str,
) -> Result<(), TenantadmError> {
    let id = user.tenant.as_str();
    tenant::change_and(
        inner,
        id,
        |tenant| {
            tenant.requested_plan = Some(plan);
            Ok(())
        },
        |tenant| {
            let mut batch = mails::to_support(inner, tenant, "Plan requested", text);
            let change = format!("requested plan: {}", plan.name());
            batch.push(audited(inner, user, tenant, "update", &change));
            batch
        },
    )
    .await?;
    inner.jobs.wake();
    Ok(())
}

/// Takes the wish back.
pub(crate) async fn cancel_upgrade(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
) -> Result<(), TenantadmError> {
    let tenant = upgradable(inner, user, id).await?;
    if tenant.requested_plan.is_none() {
        return Ok(());
    }
    let withdrawn = |tenant: &mut Tenant| {
        tenant.requested_plan = None;
        Ok(())
    };
    let told = |tenant: &Tenant| {
        vec![audited(
            inner,
            user,
            tenant,
            "update",
            "requested plan: none",
        )]
    };
    tenant::change_and(inner, user.tenant.as_str(), withdrawn, told).await?;
    inner.jobs.wake();
    Ok(())
}

/// Asks the operator for another plan or other add-ons.
pub(crate) async fn request_plan(
    inner: &Inner,
    user: &UserIdentity,
    id: &str,
    asked: &PlanRequest,
) -> Result<(), TenantadmError> {
    own(user, id)?;
    let plan = Plan::parse(&asked.requested_plan)
        .ok_or_else(|| invalid("requested_plan: unknown plan"))?;
    let (addons, message) = (&asked.requested_addons, &asked.user_message);
    if addons.len() + message.len() > TEXT_BYTES_MAX {
        return Err(invalid("the request is too long"));
    }
    let text = format!(
        "The tenant asks for the plan {}.\n\nAdd-ons: {addons}\n\nMessage:\n{message}\n",
        plan.name()
    );
    ask_for_plan(inner, user, plan, &text).await
}

/// Writes to the operator.
pub(crate) async fn contact_support(
    inner: &Inner,
    user: &UserIdentity,
    asked: &SupportRequest,
) -> Result<(), TenantadmError> {
    check_text("subject", &asked.subject, 512)?;
    check_text("body", &asked.body, TEXT_BYTES_MAX)?;
    if inner.settings.support_email.is_none() {
        return Err(TenantadmError::Conflict(
            "the operator of this server receives no mail from it",
        ));
    }
    let tenant = store::tenant::by_id(&inner.db, user.tenant.as_str()).await?;
    let name = tenant.as_ref().map_or("", |tenant| tenant.name.as_str());
    let text = format!(
        "From user {} of tenant {:?} ({name})\n\n{}\n",
        user.user_id,
        user.tenant.as_str(),
        asked.body
    );
    let payload = json!({"subject": mails::one_line(&asked.subject), "text": text});
    let job = inner
        .jobs
        .enqueue(mails::KIND, user.tenant.as_str(), &payload);
    inner.db.apply(vec![job]).await?;
    inner.jobs.wake();
    Ok(())
}
