//! `/api/internal/v1/tenantadm`, in the order of the specification.

use ambidex_access::{Authorization, authorization};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers};
use ambidex_wire::management::tenantadm as wire;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::header::{HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};

use super::view;
use crate::domain::{User, tenant, user};
use crate::store::user::Filter;
use crate::{Tenantadm, store};

pub(crate) fn routes(tenantadm: Tenantadm) -> Router {
    const BASE: &str = "/api/internal/v1/tenantadm";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path("/health"), get(check_health))
        .route(&path("/alive"), get(check_liveliness))
        .route(&path("/tenants/verify"), post(verify_jwt))
        .route(&path("/tenants"), get(list_tenants))
        .route(
            &path("/tenants/{tenant_id}"),
            get(show_tenant).put(update_tenant),
        )
        .route(&path("/users"), get(list_users).post(create_user))
        .route(
            &path("/tenants/{tenant_id}/users/{user_id}"),
            put(update_user).delete(delete_user),
        )
        .route(
            &path("/tenants/{tenant_id}/status"),
            put(set_account_status),
        )
        .with_state(tenantadm)
}

/// Check the health of the service
async fn check_health(State(tenantadm): State<Tenantadm>) -> Result<StatusCode, ApiError> {
    match tenantadm.0.db.ping().await {
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
    State(tenantadm): State<Tenantadm>,
    headers: HeaderMap,
) -> Result<Json<wire::Tenant>, ApiError> {
    let token = match authorization(&headers) {
        Authorization::Bearer(token) => token,
        Authorization::Missing => {
            return Err(ApiError::bad_request("missing Authorization header"));
        }
        Authorization::Malformed | Authorization::OtherScheme(_) => {
            return Err(ApiError::bad_request("malformed Authorization header"));
        }
    };
    let tenant = tenantadm.verify_token(token).await?;
    Ok(Json(view(&tenant)))
}

/// List known tenants
async fn list_tenants(
    State(tenantadm): State<Tenantadm>,
    OriginalUri(uri): OriginalUri,
    query: QueryPairs,
    page: Page,
) -> Result<Response, ApiError> {
    let db = &tenantadm.0.db;
    let nonempty = |name: &str| query.first(name).filter(|text| !text.is_empty());
    let mut tenants = match nonempty("username") {
        Some(name) => {
            let name = name.to_ascii_lowercase();
            let found = store::tenant::by_user(db, &name).await?;
            found.into_iter().skip(skip(&page)).collect()
        }
        // One more than asked for tells whether there is a next page.
        None => store::tenant::list(db, nonempty("q"), page.offset(), page.per_page + 1).await?,
    };
    let headers = links(&uri, &page, &mut tenants);
    let views: Vec<_> = tenants.iter().map(view).collect();
    Ok((headers, Json(views)).into_response())
}

/// Cuts a list to the page and makes its links.
fn links<T>(uri: &http::Uri, page: &Page, list: &mut Vec<T>) -> HeaderMap {
    let wanted = usize::try_from(page.per_page).unwrap_or(usize::MAX);
    let more = list.len() > wanted;
    list.truncate(wanted);
    link_headers(uri, page, more, None)
}

fn skip(page: &Page) -> usize {
    usize::try_from(page.offset()).unwrap_or(usize::MAX)
}

/// Obtain information about selected tenant
async fn show_tenant(
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
) -> Result<Json<wire::Tenant>, ApiError> {
    Ok(Json(view(&tenantadm.get(&id).await?)))
}

/// Update tenant information
async fn update_tenant(
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let change = body.json("failed to decode request body")?;
    tenant::update(&tenantadm.0, &id, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Create user
async fn create_user(
    State(tenantadm): State<Tenantadm>,
    Json(new): Json<wire::UserNew>,
) -> Result<Response, ApiError> {
    let id = user::create(&tenantadm.0, new).await?;
    let location = HeaderValue::from_str(&format!("users/{id}")).map_err(ApiError::internal)?;
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// List known users
async fn list_users(
    State(tenantadm): State<Tenantadm>,
    OriginalUri(uri): OriginalUri,
    query: QueryPairs,
    page: Page,
) -> Result<Response, ApiError> {
    let name = query.first("name").map(str::to_ascii_lowercase);
    let logins: Vec<(&str, &str)> = query
        .all("login")
        .map(|text| {
            text.split_once(':')
                .ok_or_else(|| ApiError::bad_request("login: must be provider:id"))
        })
        .collect::<Result<_, _>>()?;
    let filter = Filter {
        name: name.as_deref(),
        tenant_id: query.first("tenant_id"),
        id: query.first("id"),
    };
    let has_login = |user: &User| {
        let own = |(provider, id): &(&str, &str)| {
            let found = user.login.as_ref().and_then(|login| login.get(*provider));
            found.and_then(|value| value.as_str()) == Some(*id)
        };
        logins.is_empty() || logins.iter().any(own)
    };
    let all = store::user::list(&tenantadm.0.db, &filter).await?;
    let mut users: Vec<User> = all
        .into_iter()
        .filter(has_login)
        .skip(skip(&page))
        .take(usize::try_from(page.per_page + 1).unwrap_or(usize::MAX))
        .collect();
    let headers = links(&uri, &page, &mut users);
    let views: Vec<wire::User> = users
        .into_iter()
        .map(|user| wire::User {
            id: user.id,
            name: user.name,
            tenant_id: user.tenant_id,
            plan: user.plan,
            login: user.login,
        })
        .collect();
    Ok((headers, Json(views)).into_response())
}

/// Update user information
async fn update_user(
    State(tenantadm): State<Tenantadm>,
    Path((tenant, id)): Path<(String, String)>,
    Json(change): Json<wire::UserUpdate>,
) -> Result<StatusCode, ApiError> {
    user::update(&tenantadm.0, &tenant, &id, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove user from the system
async fn delete_user(
    State(tenantadm): State<Tenantadm>,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    tenantadm.user_deleted(&tenant, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Suspend/unsuspend tenant's account
async fn set_account_status(
    State(tenantadm): State<Tenantadm>,
    Path(id): Path<String>,
    Json(wanted): Json<wire::Status>,
) -> Result<StatusCode, ApiError> {
    tenant::set_status(&tenantadm.0, &id, &wanted.status).await?;
    Ok(StatusCode::OK)
}
