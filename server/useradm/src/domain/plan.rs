//! Plans: what they contain.

use std::collections::BTreeMap;

use ambidex_access::Plan;
use ambidex_wire::management::useradm::PlanInfo;

/// How many devices may be accepted (reference: tenant administration 5.1).
fn devices_max(plan: Plan) -> Option<i64> {
    match plan {
        Plan::Os => Some(50),
        Plan::Professional => Some(250),
        Plan::Enterprise => None,
    }
}

/// As clients see it.
pub(crate) fn show(plan: Plan) -> PlanInfo {
    let display_name = match plan {
        Plan::Os => "Basic",
        Plan::Professional => "Professional",
        Plan::Enterprise => "Enterprise",
    };
    let features: [(&str, Plan); 8] = [
        ("rbac", Plan::Enterprise),
        ("audit_logs", Plan::Enterprise),
        ("dynamic_groups", Plan::Enterprise),
        ("terminal", Plan::Os),
        ("file_transfer", Plan::Os),
        ("configuration", Plan::Os),
        ("monitoring", Plan::Os),
        ("reporting", Plan::Professional),
    ];
    PlanInfo {
        name: plan.name().to_owned(),
        display_name: display_name.to_owned(),
        features: features
            .into_iter()
            .map(|(name, from)| (name.to_owned(), plan >= from))
            .collect(),
    }
}

/// Limits of a plan that has any.
pub(crate) fn limits(plan: Plan) -> Option<BTreeMap<String, i64>> {
    devices_max(plan).map(|devices| BTreeMap::from([("devices".to_owned(), devices)]))
}

/// Whether a tenant with the plan of this name has that of `wanted`. A server without tenants has every plan.
pub(crate) fn contains(tenant: &ambidex_access::TenantId, has: &str, wanted: Plan) -> bool {
    tenant.as_str().is_empty() || Plan::parse(has).is_some_and(|plan| plan >= wanted)
}
