//! Plans and what they open.
//!
//! The one place that decides whether a tenant's plan contains a feature. Tokens carry the plan and are
//! revoked when it changes, so a check costs no read. A server without tenants sells nothing: there every
//! feature is open.

use ambidex_kit::ApiError;

use crate::UserIdentity;

/// Plans in ascending order (reference: tenants 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plan {
    /// Open source.
    Os,
    /// Professional.
    Professional,
    /// Enterprise.
    Enterprise,
}

impl Plan {
    /// All of them, in ascending order.
    pub const ALL: [Plan; 3] = [Plan::Os, Plan::Professional, Plan::Enterprise];

    /// By its name in tokens and in the API.
    pub fn parse(name: &str) -> Option<Plan> {
        Plan::ALL.into_iter().find(|plan| plan.name() == name)
    }

    /// Its name in tokens and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Plan::Os => "os",
            Plan::Professional => "professional",
            Plan::Enterprise => "enterprise",
        }
    }
}

impl UserIdentity {
    /// Call it first in the handler of an operation that needs `plan`.
    ///
    /// # Errors
    /// 403 `Feature not available in your Plan.` when the tenant's plan is lower.
    pub fn requires(&self, plan: Plan) -> Result<(), ApiError> {
        // A token without a known plan opens what every plan opens.
        let own = Plan::parse(&self.plan).unwrap_or(Plan::Os);
        if self.tenant.as_str().is_empty() || own >= plan {
            return Ok(());
        }
        Err(ApiError::forbidden("Feature not available in your Plan."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claims, Identity, TenantId};

    #[test]
    fn a_plan_contains_the_lower_ones() {
        let user = |tenant: &str, plan: &str| {
            let claims = Claims {
                jti: Some(ambidex_kit::new_id()),
                user: Some(true),
                tenant: TenantId::new(tenant).claim(),
                plan: Some(plan.to_owned()),
                ..Claims::default()
            };
            match claims.identity() {
                Some(Identity::User(user)) => user,
                other => panic!("{other:?}"),
            }
        };
        for (tenant, plan, wanted, open) in [
            ("t", "os", Plan::Os, true),
            ("t", "os", Plan::Professional, false),
            ("t", "professional", Plan::Professional, true),
            ("t", "professional", Plan::Enterprise, false),
            ("t", "enterprise", Plan::Enterprise, true),
            ("t", "golden", Plan::Professional, false),
            ("t", "", Plan::Os, true),
            ("", "os", Plan::Enterprise, true),
        ] {
            let answer = user(tenant, plan).requires(wanted);
            assert_eq!(answer.is_ok(), open, "{tenant:?} {plan:?} {wanted:?}");
            if let Err(error) = answer {
                assert_eq!(error.status, 403);
                assert_eq!(error.message, "Feature not available in your Plan.");
            }
        }
    }
}
