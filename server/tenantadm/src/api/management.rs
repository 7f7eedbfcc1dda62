//! `/api/management/{v1,v2}/tenantadm`, in the order of the specification.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json, Page, link_headers};
use ambidex_wire::management::tenantadm as wire;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::StatusCode;

use super::form::SignUpBody;
use super::view;
use crate::Tenantadm;
use crate::domain::sign_up::Kind;
use crate::domain::{account, sign_up};

pub(crate) fn routes(tenantadm: Tenantadm) -> Router {
    const V1: &str = "/api/management/v1/tenantadm";
    const V2: &str = "/api/management/v2/tenantadm";
    let v2 = |tail: &str| format!("{V2}{tail}");
    Router::new()
        .route(&format!("{V1}/user/tenant"), get(tenant_info))
        .route(&format!("{V1}/tenants"), post(create_account))
        .route(
            &v2("/tenants"),
            post(create_account_v2).get(list_child_tenants),
        )
        .route(&v2("/tenants/trial"), post(create_trial_account))
        .route(&v2("/tenants/{id}"), delete(delete_inactive_account))
        .route(&v2("/tenants/{id}/status"), put(activate_account))
        .route(&v2("/tenants/{id}/cancel"), post(cancel_account))
        .route(
            &v2("/tenants/{id}/upgrade/start"),
            post(start_account_upgrade),
        )
        .route(
            &v2("/tenants/{id}/upgrade/complete"),
            post(complete_account_upgrade),
        )
        .route(
            &v2("/tenants/{id}/upgrade/cancel"),
            post(cancel_account_upgrade),
        )
        .route(&v2("/tenants/{id}/plan"), post(request_plan))
        .route(&v2("/contact/support"), post(contact_support))
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

/// Create tenant organization
async fn create_account(
    State(tenantadm): State<Tenantadm>,
    SignUpBody(asked): SignUpBody,
) -> Result<StatusCode, ApiError> {
    sign_up::sign_up(&tenantadm.0, Kind::Active, asked).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Create tenant organization
async fn create_account_v2(
    State(tenantadm): State<Tenantadm>,
    SignUpBody(asked): SignUpBody,
) -> Result<Json<wire::TenantShortInfo>, ApiError> {
    let tenant = sign_up::sign_up(&tenantadm.0, Kind::Inactive, asked).await?;
    Ok(Json(short_info(tenant.id)))
}

/// No payment service takes part, so there is no secret of one.
fn short_info(id: String) -> wire::TenantShortInfo {
    wire::TenantShortInfo {
        id,
        secret: String::new(),
    }
}

/// Create a trial organization
async fn create_trial_account(
    State(tenantadm): State<Tenantadm>,
    SignUpBody(asked): SignUpBody,
) -> Result<StatusCode, ApiError> {
    sign_up::sign_up(&tenantadm.0, Kind::Trial, asked).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Remove inactive tenant from the system
async fn delete_inactive_account(
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    account::delete_inactive(&tenantadm.0, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Activate tenant's account
async fn activate_account(
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
    Json(wanted): Json<wire::Status>,
) -> Result<StatusCode, ApiError> {
    account::activate(&tenantadm.0, &id, &wanted.status).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Request the cancellation of a tenant
async fn cancel_account(
    UserAuth(user): UserAuth,
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
    Json(asked): Json<wire::CancelRequest>,
) -> Result<StatusCode, ApiError> {
    account::cancel(&tenantadm.0, &user, &id, &asked.reason).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Start the upgrade process of a trial tenant
async fn start_account_upgrade(
    UserAuth(user): UserAuth,
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
) -> Result<Json<wire::TenantShortInfo>, ApiError> {
    let tenant = account::start_upgrade(&tenantadm.0, &user, &id).await?;
    Ok(Json(short_info(tenant.id)))
}

/// Complete the upgrade process of a trial tenant to a specified plan
async fn complete_account_upgrade(
    UserAuth(user): UserAuth,
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
    Json(asked): Json<wire::UpgradeCompleteRequest>,
) -> Result<StatusCode, ApiError> {
    account::complete_upgrade(&tenantadm.0, &user, &id, &asked.plan).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Cancel the upgrade process of a trial tenant
async fn cancel_account_upgrade(
    UserAuth(user): UserAuth,
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    account::cancel_upgrade(&tenantadm.0, &user, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// List the tenants of a service provider. Nobody is one here, so nobody has any.
async fn list_child_tenants(
    UserAuth(_): UserAuth,
    OriginalUri(uri): OriginalUri,
    page: Page,
) -> Response {
    let headers = link_headers(&uri, &page, false, Some(0));
    (headers, Json(Vec::<wire::Tenant>::new())).into_response()
}

/// Ask the operator for another plan
async fn request_plan(
    UserAuth(user): UserAuth,
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
    Json(asked): Json<wire::PlanRequest>,
) -> Result<StatusCode, ApiError> {
    account::request_plan(&tenantadm.0, &user, &id, &asked).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Write to the operator
async fn contact_support(
    UserAuth(user): UserAuth,
    State(tenantadm): State<Tenantadm>,
    Json(asked): Json<wire::SupportRequest>,
) -> Result<StatusCode, ApiError> {
    account::contact_support(&tenantadm.0, &user, &asked).await?;
    Ok(StatusCode::ACCEPTED)
}
