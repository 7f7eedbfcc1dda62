//! `/plans` and `/plan_binding`: what the plans contain and which one the tenant has.

use ambidex_access::{Plan, UserAuth};
use ambidex_kit::{ApiError, Json, Page};
use ambidex_wire::management::useradm::{PlanBinding, PlanInfo};
use axum::Router;
use axum::extract::State;
use axum::routing::get;

use super::BASE;
use crate::domain::plan;
use crate::{Useradm, UseradmError};

pub(crate) fn routes() -> Router<Useradm> {
    Router::new()
        .route(&format!("{BASE}/plans"), get(list_plans))
        .route(&format!("{BASE}/plan_binding"), get(show_plan_and_limits))
}

/// Get list of available plans
async fn list_plans(UserAuth(_): UserAuth, page: Page) -> Json<Vec<PlanInfo>> {
    let (first, count) = (page.offset(), page.per_page);
    let plans = Plan::ALL.into_iter().map(plan::show);
    Json(
        plans
            .skip(usize::try_from(first).unwrap_or(usize::MAX))
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .collect(),
    )
}

/// Get plan and limits information for current tenant
async fn show_plan_and_limits(
    UserAuth(caller): UserAuth,
    State(useradm): State<Useradm>,
) -> Result<Json<PlanBinding>, ApiError> {
    let facts = useradm.0.parts.tenants.facts(&caller.tenant).await;
    let facts = facts.map_err(UseradmError::from)?;
    let name = facts.map_or(caller.plan, |facts| facts.plan);
    // A plan of another name has what the smallest one has.
    let plan = Plan::parse(&name).unwrap_or(Plan::Os);
    let limits = match caller.tenant.as_str() {
        "" => None,
        _ => plan::limits(plan),
    };
    Ok(Json(PlanBinding {
        plan: plan::show(plan),
        limits,
    }))
}
