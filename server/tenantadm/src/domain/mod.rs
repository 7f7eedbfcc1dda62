//! Rules of tenants.

pub(crate) mod account;
pub(crate) mod pending;
pub(crate) mod sign_up;
pub(crate) mod standing;
pub(crate) mod tenant;
pub(crate) mod user;

pub use ambidex_access::Plan;
use ambidex_wire::management::tenantadm::{Addon, TenantApiLimits};
use serde_json::{Map, Value};

pub(crate) use pending::Pending;

/// Names of the add-ons there are (reference: tenants 5.1).
pub(crate) const ADDONS: [&str; 3] = ["configure", "troubleshoot", "monitor"];

/// Devices that may be accepted; 0 is unlimited (reference: tenants 5.1).
pub(crate) fn device_limit(plan: Plan) -> u64 {
    match plan {
        Plan::Os => 50,
        Plan::Professional => 250,
        Plan::Enterprise => 0,
    }
}

/// All add-ons, on or off.
pub(crate) fn addons(enabled: bool) -> Vec<Addon> {
    ADDONS
        .map(|name| Addon {
            name: name.to_owned(),
            enabled,
        })
        .into()
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
    /// Status of the account as it was last set; see [`Tenant::status_at`].
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
    /// When the account will be suspended because the tenant asked for it, milliseconds since 1970.
    pub cancel_at_ms: Option<i64>,
    /// Why the tenant goes.
    pub cancel_reason: Option<String>,
    /// The plan that the tenant asks for and the operator has not decided on.
    pub requested_plan: Option<Plan>,
    /// The end of a trial that was acted upon.
    pub(crate) ended_ms: i64,
    /// What neighbours must still be told.
    pub(crate) pending: Pending,
    /// Grows with every change.
    pub(crate) version: i64,
}

impl Tenant {
    /// The status that counts: a trial or a notice that is over suspends whether it was written down
    /// already or not.
    pub fn status_at(&self, now_ms: i64) -> Status {
        let over = |end: Option<i64>| end.is_some_and(|end| end <= now_ms);
        let trial_over = self.trial
            && over(self.trial_expiration_ms)
            && self.trial_expiration_ms != Some(self.ended_ms);
        match self.status {
            Status::Active if trial_over || over(self.cancel_at_ms) => Status::Suspended,
            other => other,
        }
    }
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
