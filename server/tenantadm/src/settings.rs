//! What can be set about tenants.

use crate::recaptcha::Recaptcha;

/// Who takes money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Billing {
    /// Nobody: plans are granted as asked for, upgrades by the tenants themselves are not offered.
    #[default]
    None,
    /// The operator, outside of this server: tenants ask for a plan and the operator grants it.
    Manual,
}

/// Settings of the service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether the server has several tenants. Without, nobody signs up and nothing is stored.
    pub multi_tenant: bool,
    /// Whether anybody may create a tenant.
    pub self_sign_up: bool,
    /// Who takes money.
    pub billing: Billing,
    /// Days of a trial.
    pub trial_days: u32,
    /// Days between the cancellation of an account that is not on trial and its suspension.
    pub notice_days: u32,
    /// Checks that a person signs up; `None`: not asked for.
    pub recaptcha: Option<Recaptcha>,
    /// Who receives what tenants ask of the operator.
    pub support_email: Option<String>,
}

impl Default for Settings {
    /// 30 days for both periods: a month to look around, and a month's notice.
    fn default() -> Settings {
        Settings {
            multi_tenant: false,
            self_sign_up: false,
            billing: Billing::None,
            trial_days: 30,
            notice_days: 30,
            recaptcha: None,
            support_email: None,
        }
    }
}
