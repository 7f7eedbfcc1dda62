//! HTTP: extract, call the domain, respond. One function an operation, named by its operation id.

pub(crate) mod billing;
mod form;
pub(crate) mod internal;
pub(crate) mod management;

use ambidex_kit::rfc3339;
use ambidex_wire::management::tenantadm as wire;

use crate::Tenant;

pub(crate) fn view(tenant: &Tenant) -> wire::Tenant {
    wire::Tenant {
        id: tenant.id.clone(),
        name: tenant.name.clone(),
        tenant_token: Some(tenant.token.clone()),
        status: tenant.status.name().to_owned(),
        plan: tenant.plan.name().to_owned(),
        trial: tenant.trial,
        trial_expiration: tenant.trial_expiration_ms.map(rfc3339),
        addons: tenant.addons.clone(),
        api_limits: tenant.api_limits.clone(),
        created_at: Some(rfc3339(tenant.created_ms)),
    }
}
