//! Rules of tenants.

pub(crate) mod tenant;
pub(crate) mod user;

use ambidex_wire::management::tenantadm::{Addon, TenantApiLimits};
use serde_json::{Map, Value};

/// Plans in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// Open source.
    Os,
    /// Professional.
    Professional,
    /// Enterprise.
    Enterprise,
}

impl Plan {
    /// By its name in the API.
    pub fn parse(name: &str) -> Option<Plan> {
        [Plan::Os, Plan::Professional, Plan::Enterprise]
            .into_iter()
            .find(|plan| plan.name() == name)
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Plan::Os => "os",
            Plan::Professional => "professional",
            Plan::Enterprise => "enterprise",
        }
    }

    /// Devices that may be accepted; 0 is unlimited (reference: tenants 5.1).
    pub(crate) fn device_limit(self) -> u64 {
        match self {
            Plan::Os => 50,
            Plan::Professional => 250,
            Plan::Enterprise => 0,
        }
    }
}

/// Status of a tenant's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// In use.
    Active,
    /// Nobody may log in and no device may connect; data is kept.
    Suspended,
    /// Signed up but not yet activated.
    Inactive,
}

impl Status {
    /// By its name in the API.
    pub fn parse(name: &str) -> Option<Status> {
        [Status::Active, Status::Suspended, Status::Inactive]
            .into_iter()
            .find(|status| status.name() == name)
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Suspended => "suspended",
            Status::Inactive => "inactive",
        }
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Name of the organisation; may repeat.
    pub name: String,
    /// Status of the account.
    pub status: Status,
    /// Plan.
    pub plan: Plan,
    /// On trial.
    pub trial: bool,
    /// End of the trial, milliseconds since 1970.
    pub trial_expiration_ms: Option<i64>,
    /// What the tenant may use.
    pub addons: Vec<Addon>,
    /// Call quotas and bursts.
    pub api_limits: TenantApiLimits,
    /// What devices send with their first request.
    pub token: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

/// Who belongs to a tenant.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) tenant_id: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) login: Option<Map<String, Value>>,
    pub(crate) plan: Option<String>,
}
