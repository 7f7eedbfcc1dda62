//! HTTP: extract, call the domain, respond. One function an operation, named by its operation id.

pub(crate) mod internal;
pub(crate) mod management;

use ambidex_kit::{ApiError, Json, Page, QueryPairs, link_headers};
use ambidex_wire::management::auditlogs::Event;
use axum::response::{IntoResponse, Response};
use http::Uri;

use crate::domain::{Filter, Sort};
use crate::{Auditlogs, store};

/// Events a page unless told (what the reference's own tests expect).
const PER_PAGE_DEFAULT: u64 = 10;
/// Events a page at most.
const PER_PAGE_MAX: u64 = 500;

/// The filter and order of a list, from the query.
fn filter(query: &QueryPairs) -> Result<Filter, ApiError> {
    let text = |name: &str| query.first(name).filter(|text| !text.is_empty());
    let seconds = |name: &str| {
        text(name)
            .map(|text| {
                text.parse::<i64>()
                    .map(|seconds| seconds.saturating_mul(1000))
                    .map_err(|_| ApiError::bad_request(format!("Can't parse param {name}")))
            })
            .transpose()
    };
    let sort = match text("sort") {
        None | Some("desc") => Sort::Descending,
        Some("asc") => Sort::Ascending,
        Some(_) => return Err(ApiError::bad_request("sort: must be asc or desc")),
    };
    let word = |name: &str| text(name).map(str::to_owned);
    Ok(Filter {
        from_ms: seconds("created_after")?,
        until_ms: seconds("created_before")?,
        actor_id: word("actor_id"),
        actor_type: word("actor_type"),
        actor_email: word("actor_email"),
        object_id: word("object_id"),
        object_type: word("object_type"),
        deployment_name: word("object_deployment_name"),
        sort,
    })
}

/// A page of a tenant's log with its headers.
async fn page(
    auditlogs: &Auditlogs,
    tenant: &str,
    uri: &Uri,
    query: &QueryPairs,
) -> Result<Response, ApiError> {
    let page = Page::parse(query, PER_PAGE_DEFAULT, PER_PAGE_MAX)?;
    let filter = filter(query)?;
    let db = &auditlogs.0.db;
    let found = store::event::page(db, tenant, &filter, page.per_page, page.offset()).await?;
    let total = store::event::count(db, tenant, &filter).await?;
    let has_next = page.offset().saturating_add(page.per_page) < total;
    let events: Vec<Event> = found.into_iter().map(|found| found.event).collect();
    Ok((
        link_headers(uri, &page, has_next, Some(total)),
        Json(events),
    )
        .into_response())
}
