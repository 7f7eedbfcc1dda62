//! Telling neighbours what a change of a tenant means for them, even if the server dies half way.
//!
//! A change writes what is pending together with the tenant; whoever made it tells the neighbours and then
//! writes that all is done, unless the tenant was changed again meanwhile. What stays pending is told by
//! the next round of [`crate::Tenantadm::run`] or at the next start. Every step is safe to repeat.

use ambidex_db::DbError;

use super::{device_limit, tenant};
use crate::ports::UserRefusal;
use crate::{Inner, TenantadmError, store};

/// A set of things to be told, as bits of the column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pending(pub(crate) i64);

impl Pending {
    pub(crate) const NONE: Pending = Pending(0);
    /// Device authentication: how many devices the plan allows.
    pub(crate) const LIMIT: Pending = Pending(1);
    /// Users and devices: their tokens end.
    pub(crate) const REVOKE: Pending = Pending(2);
    /// User administration: the first user.
    pub(crate) const USER: Pending = Pending(4);
    /// Everybody: the tenant was never used and goes.
    pub(crate) const REMOVE: Pending = Pending(8);

    pub(crate) fn and(self, other: Pending) -> Pending {
        Pending(self.0 | other.0)
    }

    pub(crate) fn has(self, other: Pending) -> bool {
        self.0 & other.0 != 0
    }
}

/// Tells what is pending about one tenant.
pub(crate) async fn finish(inner: &Inner, id: &str) -> Result<(), TenantadmError> {
    let Some(mut tenant) = store::tenant::by_id(&inner.db, id).await? else {
        return Ok(());
    };
    if tenant.pending.has(Pending::USER)
        && !tenant.pending.has(Pending::REMOVE)
        && let Some(user) = store::first_user::of_tenant(&inner.db, id).await?
    {
        match inner.accounts.create_user(id, &user).await {
            Ok(()) => {}
            Err(UserRefusal::Failed(error)) => return Err(error.into()),
            Err(refusal) => {
                // Somebody took the address between the check and now; nobody could ever log in.
                tracing::warn!(tenant = id, %refusal, "a sign-up is undone");
                (_, tenant) = tenant::change(inner, id, |tenant| {
                    tenant.pending = tenant.pending.and(Pending::REMOVE);
                    Ok(())
                })
                .await?;
            }
        }
    }
    if tenant.pending.has(Pending::REMOVE) {
        return remove(inner, id).await;
    }
    if tenant.pending.has(Pending::LIMIT) {
        let devices = device_limit(tenant.plan);
        inner.accounts.limit_devices(id, devices).await?;
    }
    if tenant.pending.has(Pending::REVOKE) {
        inner.accounts.revoke_tokens(id).await?;
    }
    if tenant.pending == Pending::NONE {
        return Ok(());
    }
    let done = vec![
        store::tenant::finished(id, tenant.version),
        store::first_user::delete(id),
    ];
    match inner.db.apply(done).await {
        // Changed again meanwhile: whoever did that tells the rest.
        Ok(_) | Err(DbError::Conflict { .. }) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

async fn remove(inner: &Inner, id: &str) -> Result<(), TenantadmError> {
    inner.accounts.remove_users(id).await?;
    inner.accounts.limit_devices(id, 0).await?;
    inner
        .db
        .apply(vec![
            store::user::delete_all(id),
            store::first_user::delete(id),
            store::tenant::delete(id),
        ])
        .await?;
    inner.standings.changed();
    Ok(())
}

/// Tells what has been pending since before `since_ms`. One tenant that fails does not hold up others.
pub(crate) async fn finish_all(inner: &Inner, since_ms: i64) -> Result<(), TenantadmError> {
    let mut outcome = Ok(());
    for id in store::tenant::pending(&inner.db, since_ms).await? {
        if let Err(error) = finish(inner, &id).await {
            tracing::warn!(tenant = %id, %error, "neighbours are told of the tenant later");
            outcome = Err(error);
        }
    }
    outcome
}
