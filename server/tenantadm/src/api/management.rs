//! `/api/management/{v1,v2}/tenantadm`.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json};
use ambidex_wire::management::tenantadm as wire;
use axum::Router;
use axum::extract::State;
use axum::routing::get;

use super::view;
use crate::Tenantadm;

pub(crate) fn routes(tenantadm: Tenantadm) -> Router {
    Router::new()
        .route("/api/management/v1/tenantadm/user/tenant", get(tenant_info))
        .with_state(tenantadm)
}

/// Obtain information about current tenant
async fn tenant_info(
    UserAuth(user): UserAuth,
    State(tenantadm): State<Tenantadm>,
) -> Result<Json<wire::Tenant>, ApiError> {
    let tenant = tenantadm.get(user.tenant.as_str()).await?;
    Ok(Json(view(&tenant)))
}
