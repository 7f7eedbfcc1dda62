//! `/api/internal/v1/useradm`, in the order of the specification.

use ambidex_access::{
    Authorization, CallGate, Grants, Identity, TenantId, TokenError, authorization,
};
use ambidex_kit::{ApiError, Json, QueryPairs, RawBody};
use ambidex_wire::management::useradm as wire;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use http::header::{HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use super::{filter, view};
use crate::domain::{access, user};
use crate::{NewUser, RequestDenied, Secret, Useradm, store};

pub(crate) fn routes(useradm: Useradm) -> Router {
    const BASE: &str = "/api/internal/v1/useradm";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path("/health"), get(check_health))
        .route(&path("/alive"), get(check_liveliness))
        .route(&path("/auth/verify"), get(verify_jwt).post(verify_jwt))
        .route(&path("/tenants"), post(create_tenant))
        .route(
            &path("/tenants/{tenant_id}/users"),
            get(list_tenant_users).post(create_tenant_user),
        )
        .route(
            &path("/tenants/{tenant_id}/users/{user_id}"),
            delete(delete_tenant_user),
        )
        .route(
            &path("/tenants/{tenant_id}/devices/{device_id}/users"),
            get(list_device_users),
        )
        // The one tenant of a server without tenants has an empty id.
        .route(
            &path("/tenants//users/{user_id}"),
            delete(delete_default_user),
        )
        .route(
            &path("/tenants//devices/{device_id}/users"),
            get(list_default_device_users),
        )
        .route(
            &path("/tenants//users"),
            get(list_default_users).post(create_default_user),
        )
        .route(&path("/tokens"), delete(revoke_user_tokens))
        .with_state(useradm)
}

/// Check the health of the service
async fn check_health(State(useradm): State<Useradm>) -> Result<StatusCode, ApiError> {
    match useradm.0.db().ping().await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(ApiError::unavailable(format!(
            "error reaching the database: {error}"
        ))),
    }
}

/// Trivial endpoint that answers whenever the API handler is running
async fn check_liveliness() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Check the validity of a token
async fn verify_jwt(
    State(useradm): State<Useradm>,
    gate: Option<Extension<CallGate>>,
    headers: HeaderMap,
) -> Result<HeaderMap, ApiError> {
    let token = match authorization(&headers) {
        Authorization::Bearer(token) => token,
        Authorization::Missing => {
            return Err(ApiError::unauthorized(
                "authorization not present in header",
            ));
        }
        Authorization::Malformed | Authorization::OtherScheme(_) => {
            return Err(ApiError::unauthorized("malformed Authorization header"));
        }
    };
    let claims = useradm
        .0
        .parts
        .keys
        .verify(token)
        .map_err(|_| ApiError::unauthorized("invalid jwt"))?;
    match claims.check_time(useradm.0.now_ms()) {
        Ok(()) => {}
        Err(TokenError::Expired) => return Err(ApiError::forbidden("token expired")),
        Err(_) => return Err(ApiError::unauthorized("invalid jwt")),
    }
    let (method, uri) = original_request(&headers)?;
    if claims
        .scp
        .as_deref()
        .is_some_and(|scope| scope != "mender.*")
    {
        return Err(ApiError::forbidden("forbidden"));
    }
    let Some(Identity::User(user)) = claims.identity() else {
        return Err(ApiError::unauthorized("unauthorized"));
    };
    let outcome = useradm.check_request(&user, method.as_str(), uri).await;
    // Calls that the roles refuse count as well.
    if let (Some(Extension(gate)), Ok(_) | Err(RequestDenied::Forbidden)) = (gate, &outcome) {
        let path = uri.split(['?', '#']).next().unwrap_or_default();
        gate.user(&user, &method, path).await?;
    }
    match outcome {
        Ok(grants) => rbac_headers(&grants),
        Err(RequestDenied::Revoked) => Err(ApiError::unauthorized("unauthorized")),
        Err(denied @ RequestDenied::Forbidden) => Err(ApiError::forbidden(denied.to_string())),
        Err(RequestDenied::Failed(error)) => Err(error.into()),
    }
}

/// What the roles leave of the fleet, for the services behind the gateway. Single devices have no header.
fn rbac_headers(grants: &Grants) -> Result<HeaderMap, ApiError> {
    let mut headers = HeaderMap::new();
    for (name, list) in [
        ("x-men-rbac-inventory-groups", &grants.inventory_groups),
        ("x-men-rbac-deployments-groups", &grants.deployment_groups),
        ("x-men-rbac-remote-terminal-groups", &grants.terminal_groups),
        ("x-men-rbac-releases-tags", &grants.release_tags),
    ] {
        if let Some(list) = list {
            // Other names cannot be told in a list with commas, and no group has one.
            let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_graphic() && b != b',');
            let names: Vec<&str> = list.iter().map(String::as_str).filter(plain).collect();
            let value = HeaderValue::from_str(&names.join(",")).map_err(ApiError::internal)?;
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// The gateway says which request it asks for; one that does not is misconfigured.
fn original_request(headers: &HeaderMap) -> Result<(Method, &str), ApiError> {
    let value = |names: [&str; 2]| {
        names
            .iter()
            .filter_map(|name| headers.get(*name))
            .find_map(|value| value.to_str().ok())
            .filter(|text| !text.is_empty())
    };
    let uri = value(["x-original-uri", "x-forwarded-uri"])
        .ok_or_else(|| ApiError::bad_request("missing X-Original-URI header"))?;
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    if path.split('/').filter(|part| !part.is_empty()).count() < 4 {
        return Err(ApiError::bad_request(
            "malformed X-Original-URI header: at least 4 path components are needed",
        ));
    }
    let method = value(["x-original-method", "x-forwarded-method"])
        .ok_or_else(|| ApiError::bad_request("missing X-Original-Method header"))?;
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| ApiError::bad_request("malformed X-Original-Method header"))?;
    Ok((method, uri))
}

#[derive(Deserialize)]
struct TenantNew {
    #[serde(default)]
    tenant_id: String,
}

/// Create a tenant with provided configuration
async fn create_tenant(
    State(useradm): State<Useradm>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let new: TenantNew = body.json("failed to decode request body")?;
    if new.tenant_id.is_empty() {
        return Err(ApiError::bad_request("tenant_id: cannot be blank."));
    }
    useradm
        .0
        .db()
        .apply(vec![store::tenant::put(&new.tenant_id)])
        .await?;
    Ok(StatusCode::CREATED)
}

/// Create user
async fn create_tenant_user(
    State(useradm): State<Useradm>,
    Path(tenant): Path<String>,
    Json(new): Json<wire::InternalUserNew>,
) -> Result<Response, ApiError> {
    create(&useradm, TenantId::new(tenant), new).await
}

async fn create_default_user(
    State(useradm): State<Useradm>,
    Json(new): Json<wire::InternalUserNew>,
) -> Result<Response, ApiError> {
    create(&useradm, TenantId::default(), new).await
}

async fn create(
    useradm: &Useradm,
    tenant: TenantId,
    new: wire::InternalUserNew,
) -> Result<Response, ApiError> {
    let propagate = new.propagate.unwrap_or(true);
    let secret = match (new.password, new.password_hash) {
        (Some(password), None) => Secret::Password(password),
        (None, Some(_)) if propagate => {
            return Err(ApiError::bad_request(
                "password_hash is not supported with 'propagate'; use 'password' instead",
            ));
        }
        (None, Some(hash)) => Secret::Hash(hash),
        _ => {
            return Err(ApiError::bad_request(
                "password *or* password_hash must be provided",
            ));
        }
    };
    let id = useradm
        .create_user(
            &tenant,
            NewUser {
                id: new.id,
                email: new.email,
                secret,
                login: None,
                roles: Vec::new(),
                propagate,
            },
        )
        .await?;
    let location = HeaderValue::from_str(&format!("users/{id}")).map_err(ApiError::internal)?;
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// List all users of a tenant
async fn list_tenant_users(
    State(useradm): State<Useradm>,
    Path(tenant): Path<String>,
    query: QueryPairs,
) -> Result<Json<Vec<wire::User>>, ApiError> {
    list(&useradm, &TenantId::new(tenant), &query).await
}

async fn list_default_users(
    State(useradm): State<Useradm>,
    query: QueryPairs,
) -> Result<Json<Vec<wire::User>>, ApiError> {
    list(&useradm, &TenantId::default(), &query).await
}

async fn list(
    useradm: &Useradm,
    tenant: &TenantId,
    query: &QueryPairs,
) -> Result<Json<Vec<wire::User>>, ApiError> {
    let users = user::list(&useradm.0, tenant, &filter(query)?).await?;
    Ok(Json(users.into_iter().map(view).collect()))
}

/// Delete a user of a tenant
async fn delete_tenant_user(
    State(useradm): State<Useradm>,
    Path((tenant, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    user::delete(&useradm.0, &TenantId::new(tenant), None, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_default_user(
    State(useradm): State<Useradm>,
    Path(user): Path<String>,
) -> Result<StatusCode, ApiError> {
    user::delete(&useradm.0, &TenantId::default(), None, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the addresses of users who may see a device
async fn list_device_users(
    State(useradm): State<Useradm>,
    Path((tenant, device)): Path<(String, String)>,
) -> Result<Json<wire::Emails>, ApiError> {
    let emails = access::who_sees_device(&useradm.0, &TenantId::new(tenant), &device).await?;
    Ok(Json(wire::Emails { emails }))
}

async fn list_default_device_users(
    State(useradm): State<Useradm>,
    Path(device): Path<String>,
) -> Result<Json<wire::Emails>, ApiError> {
    let emails = access::who_sees_device(&useradm.0, &TenantId::default(), &device).await?;
    Ok(Json(wire::Emails { emails }))
}

/// Delete all user tokens
async fn revoke_user_tokens(
    State(useradm): State<Useradm>,
    query: QueryPairs,
) -> Result<StatusCode, ApiError> {
    let tenant = query
        .first("tenant_id")
        .filter(|id| !id.is_empty())
        .ok_or_else(|| ApiError::bad_request("tenant_id must be provided"))?;
    let user = query.first("user_id").filter(|id| !id.is_empty());
    useradm.revoke_tokens(&TenantId::new(tenant), user).await?;
    Ok(StatusCode::NO_CONTENT)
}
