//! `/api/management/v2/tenantadm/billing`.
//!
//! This server takes no cards: there is no card to show, no secret of a payment service to hand out and
//! no intent to confirm. What cannot be is said, never made up.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json};
use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use serde_json::{Map, Value};

use crate::Tenantadm;

const NO_CARDS: &str = "billing is not configured: this server takes no cards";

pub(crate) fn routes(tenantadm: Tenantadm) -> Router {
    const BASE: &str = "/api/management/v2/tenantadm/billing";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(BASE, get(get_billing_information))
        .route(&path("/secret"), post(get_stripe_secret))
        .route(&path("/card"), post(init_card_update))
        .route(&path("/card/{id}/confirm"), post(confirm_card_update))
        .route(
            &path("/profile"),
            get(get_billing_profile)
                .post(save_billing_profile)
                .patch(save_billing_profile),
        )
        .route(
            &path("/subscription"),
            get(get_subscription).post(order_subscription),
        )
        .route(
            &path("/subscription/invoices/preview"),
            post(preview_invoice),
        )
        .with_state(tenantadm)
}

/// Get billing information
async fn get_billing_information(UserAuth(_): UserAuth) -> Json<Map<String, Value>> {
    Json(Map::new())
}

/// Get the payment service's client secret
async fn get_stripe_secret(UserAuth(_): UserAuth) -> ApiError {
    ApiError::conflict(NO_CARDS)
}

/// Begin to collect card details
async fn init_card_update(UserAuth(_): UserAuth) -> ApiError {
    ApiError::conflict(NO_CARDS)
}

/// Save the card collected using the given intent
async fn confirm_card_update(UserAuth(_): UserAuth, Path(_): Path<String>) -> ApiError {
    ApiError::not_found("setup intent not found")
}

/// Show who is billed
async fn get_billing_profile(UserAuth(_): UserAuth) -> ApiError {
    ApiError::not_found("there is no billing profile")
}

/// Say who is billed
async fn save_billing_profile(UserAuth(_): UserAuth) -> ApiError {
    ApiError::conflict(NO_CARDS)
}

/// Show what is paid for
async fn get_subscription(UserAuth(_): UserAuth) -> ApiError {
    ApiError::not_found("there is no subscription")
}

/// Pay for something
async fn order_subscription(UserAuth(_): UserAuth) -> ApiError {
    ApiError::conflict(NO_CARDS)
}

/// Show what would be paid
async fn preview_invoice(UserAuth(_): UserAuth) -> ApiError {
    ApiError::conflict(NO_CARDS)
}
