//! `/api/management/v1/auditlogs`, in the order of the specification.

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, QueryPairs};
use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::{filter, page};
use crate::domain::Filter;
use crate::domain::csv::Table;
use crate::store::event::Cursor;
use crate::{Auditlogs, AuditlogsError, store};

/// Events that one piece of an export is made of: what is held in memory at a time.
const EXPORT_EVENTS: u64 = 500;
/// The text between the levels of a column's name, in bytes.
const SEPARATOR_BYTES_MAX: usize = 32;

pub(crate) fn routes(auditlogs: Auditlogs) -> Router {
    const BASE: &str = "/api/management/v1/auditlogs";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path("/logs"), get(get_audit_logs))
        .route(&path("/logs/export"), get(export_audit_logs))
        .with_state(auditlogs)
}

/// The audit log belongs to the enterprise plan. A server without tenants has no plans.
fn check_plan(user: &UserIdentity) -> Result<(), ApiError> {
    if user.tenant.as_str().is_empty() || user.plan == "enterprise" {
        return Ok(());
    }
    Err(ApiError::forbidden("Feature not available in your Plan."))
}

/// Returns a paged list of audit log objects
async fn get_audit_logs(
    UserAuth(user): UserAuth,
    State(auditlogs): State<Auditlogs>,
    OriginalUri(uri): OriginalUri,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    check_plan(&user)?;
    page(&auditlogs, user.tenant.as_str(), &uri, &query).await
}

/// Returns a list of audit log objects as a CSV document
async fn export_audit_logs(
    UserAuth(user): UserAuth,
    State(auditlogs): State<Auditlogs>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    check_plan(&user)?;
    let left = match query.first("limit").filter(|text| !text.is_empty()) {
        None => u64::MAX,
        Some(text) => text
            .parse::<i128>()
            .map_err(|_| ApiError::bad_request("Can't parse param limit"))
            .and_then(|limit| {
                u64::try_from(limit)
                    .ok()
                    .filter(|limit| *limit > 0)
                    .ok_or_else(|| ApiError::bad_request("Param limit is out of bounds"))
            })?,
    };
    let separator = query.first("format_separator").unwrap_or(".");
    if separator.len() > SEPARATOR_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "format_separator: the length must be no more than {SEPARATOR_BYTES_MAX}."
        )));
    }
    let ignored: Vec<&str> = query
        .all("ignore")
        .flat_map(|names| names.split(','))
        .map(str::trim)
        .collect();
    let export = Export {
        filter: filter(&query)?,
        tenant: user.tenant.as_str().to_owned(),
        table: Table::new(separator, &ignored),
        after: None,
        left,
        begun: false,
        auditlogs,
    };
    let pieces = stream::try_unfold(export, Export::next);
    Ok((
        [
            (CONTENT_TYPE, "text/csv"),
            (
                CONTENT_DISPOSITION,
                "attachment; filename=\"auditlogs.csv\"",
            ),
        ],
        Body::from_stream(pieces),
    )
        .into_response())
}

/// An export under way: each piece is read when the client has taken the one before.
struct Export {
    auditlogs: Auditlogs,
    tenant: String,
    filter: Filter,
    table: Table,
    after: Option<Cursor>,
    left: u64,
    begun: bool,
}

impl Export {
    async fn next(mut self) -> Result<Option<(Bytes, Export)>, AuditlogsError> {
        if self.begun && self.left == 0 {
            return Ok(None);
        }
        let wanted = self.left.min(EXPORT_EVENTS);
        let found = store::event::walk(
            &self.auditlogs.0.db,
            &self.tenant,
            &self.filter,
            self.after.as_ref(),
            wanted,
        )
        .await?;
        if found.is_empty() && self.begun {
            return Ok(None);
        }
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            self.table.header(&mut text);
        }
        for recorded in &found {
            self.table.event(&recorded.event, &mut text);
        }
        let taken = found.len() as u64;
        // Fewer than asked for: that was the end.
        self.left = if taken < wanted { 0 } else { self.left - taken };
        if let Some(last) = found.into_iter().last() {
            self.after = Some((last.time_ms, last.id));
        }
        Ok(Some((Bytes::from(text), self)))
    }
}
