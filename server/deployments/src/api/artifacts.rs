//! Artifacts, releases and their storage, as operators call them.

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers, rfc3339};
use ambidex_wire::management::deployments::{Artifact, ArtifactChange, ArtifactLink, StorageUsage};
use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::LOCATION;
use serde::Serialize;

use super::{MANAGEMENT_V1, MANAGEMENT_V2, download, id, origin::Origin, upload};
use crate::Context;
use crate::domain::release::{Key, NameFilter, Sort};
use crate::domain::{artifact, grants, removal};
use crate::error::Error;
use crate::store;

pub fn routes() -> Router<Context> {
    let path = |rest: &str| format!("{MANAGEMENT_V1}{rest}");
    Router::new()
        .route(
            &path("/artifacts"),
            // The artifact is streamed; its own limit counts.
            get(list_artifacts)
                .post(upload_artifact)
                .layer(DefaultBodyLimit::disable()),
        )
        .route(&path("/artifacts/list"), get(list_artifacts_paged))
        .route(
            &path("/artifacts/generate"),
            post(generate_artifact).layer(DefaultBodyLimit::disable()),
        )
        .route(
            &format!("{MANAGEMENT_V2}/artifacts"),
            get(list_artifacts_v2),
        )
        .route(
            &path("/artifacts/{id}"),
            get(show_artifact)
                .put(update_artifact_info)
                .delete(delete_artifact),
        )
        .route(&path("/artifacts/{id}/download"), get(download_artifact))
        .route(&path("/limits/{name}"), get(get_storage_usage))
}

/// The wanted page of a list that is in memory, with its headers.
pub fn paged<T: Serialize>(all: Vec<T>, page: &Page, uri: &http::Uri) -> Response {
    let total = all.len() as u64;
    let skip = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let take = usize::try_from(page.per_page).unwrap_or(usize::MAX);
    let has_next = page.offset().saturating_add(page.per_page) < total;
    let items: Vec<T> = all.into_iter().skip(skip).take(take).collect();
    (link_headers(uri, page, has_next, Some(total)), Json(items)).into_response()
}

/// Which artifacts a list shows.
#[derive(Default)]
struct Filter {
    name: Option<NameFilter>,
    description: Option<NameFilter>,
    device_type: Option<NameFilter>,
}

impl Filter {
    fn admits(&self, artifact: &artifact::Artifact) -> bool {
        let text = |filter: &Option<NameFilter>, text: &str| {
            filter.as_ref().is_none_or(|filter| filter.admits(text))
        };
        text(&self.name, &artifact.name)
            && text(&self.description, &artifact.description)
            && self.device_type.as_ref().is_none_or(|filter| {
                let types = &artifact.device_types;
                types.iter().any(|known| filter.admits(known))
            })
    }
}

/// The artifacts that the user sees and the filter admits, by name.
async fn found_all(
    context: &Context,
    user: &UserIdentity,
    filter: &Filter,
) -> Result<Vec<artifact::Artifact>, Error> {
    let name = match &filter.name {
        Some(NameFilter::Exact(names)) => match names.as_slice() {
            [name] => Some(name.as_str()),
            _ => None,
        },
        _ => None,
    };
    let mut found = store::artifact::list(&context.db, &user.tenant, name).await?;
    found.retain(|artifact| filter.admits(artifact));
    if user.grants.release_tags.is_some() {
        let seen = grants::releases(context, &user.tenant, &user.grants).await?;
        found.retain(|artifact| seen.contains(&artifact.name));
    }
    Ok(found)
}

/// The filters of version 1: whole names, parts of descriptions.
fn filter_v1(query: &QueryPairs) -> Filter {
    let text = |key: &str| {
        query
            .first(key)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Filter {
        name: text("name").map(|name| NameFilter::Exact(vec![name])),
        description: text("description").map(NameFilter::Contains),
        device_type: text("device_type").map(|one| NameFilter::Exact(vec![one])),
    }
}

/// List known artifacts
async fn list_artifacts(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
) -> Result<Json<Vec<Artifact>>, ApiError> {
    let found = found_all(&context, &user, &filter_v1(&query)).await?;
    Ok(Json(
        found
            .into_iter()
            .map(artifact::Artifact::into_wire)
            .collect(),
    ))
}

/// List known artifacts, a page at a time
async fn list_artifacts_paged(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let sort = match query.first("sort").filter(|text| !text.is_empty()) {
        None => Sort::default(),
        Some(text) => Sort::parse(text)?,
    };
    if matches!(sort.key, Key::Tags | Key::ArtifactsCount) {
        return Err(ApiError::bad_request("invalid sort parameter"));
    }
    let mut found = found_all(&context, &user, &filter_v1(&query)).await?;
    if sort.key == Key::Modified {
        found.sort_by_key(|artifact| artifact.modified_ms);
    }
    if sort.descending {
        found.reverse();
    }
    Ok(shown_page(found, &page, &uri))
}

/// List known artifacts, version 2
async fn list_artifacts_v2(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let all = |key: &str| -> Result<Option<NameFilter>, Error> {
        let values = query.all(key).filter(|text| !text.is_empty());
        NameFilter::exact_or_prefix(values.map(str::to_owned).collect())
    };
    let filter = Filter {
        name: all("name")?,
        description: all("description")?,
        device_type: all("device_type")?,
    };
    let found = found_all(&context, &user, &filter).await?;
    Ok(shown_page(found, &page, &uri))
}

fn shown_page(found: Vec<artifact::Artifact>, page: &Page, uri: &http::Uri) -> Response {
    let total = found.len() as u64;
    let skip = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let take = usize::try_from(page.per_page).unwrap_or(usize::MAX);
    let has_next = page.offset().saturating_add(page.per_page) < total;
    let items: Vec<Artifact> = found
        .into_iter()
        .skip(skip)
        .take(take)
        .map(artifact::Artifact::into_wire)
        .collect();
    (link_headers(uri, page, has_next, Some(total)), Json(items)).into_response()
}

/// Upload raw data to generate a new artifact
async fn generate_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    request: Request,
) -> Result<Response, ApiError> {
    let id = upload::receive_raw(&context, &user, request).await?;
    let location = format!("{MANAGEMENT_V1}/artifacts/generate/{id}");
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// Upload mender artifact
async fn upload_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    request: Request,
) -> Result<Response, ApiError> {
    let id = upload::receive(&context, &user.tenant, Some(&user), request).await?;
    Ok(created(&id))
}

/// 201 with the place of an artifact.
pub fn created(id: &str) -> Response {
    let location = format!("{MANAGEMENT_V1}/artifacts/{id}");
    (StatusCode::CREATED, [(LOCATION, location)]).into_response()
}

async fn found(
    context: &Context,
    user: &UserIdentity,
    id: &str,
) -> Result<artifact::Artifact, ApiError> {
    Ok(removal::found(context, user, &id::parse(id)?).await?)
}

/// Get the details of a selected artifact
async fn show_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Artifact>, ApiError> {
    Ok(Json(found(&context, &user, &id).await?.into_wire()))
}

/// Update description of a selected artifact
async fn update_artifact_info(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let id = id::parse(&id)?;
    let change: ArtifactChange = body.json("Validating request body")?;
    removal::describe(&context, &user, &id, &change.description).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete the artifact
async fn delete_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    removal::remove(&context, &user, &id::parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get the download link of a selected artifact
async fn download_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    Origin(origin): Origin,
) -> Result<Json<ArtifactLink>, ApiError> {
    let artifact = found(&context, &user, &id).await?;
    let now_ms = context.clock.now_ms();
    let lifetime_ms = context.settings.artifact_link_ms;
    let uri = context
        .blobs
        .download_link(
            &origin,
            &artifact.blob_key,
            &download::file_name(&artifact.name),
            now_ms,
            lifetime_ms,
        )
        .await
        .map_err(Error::from)?;
    Ok(Json(ArtifactLink {
        uri,
        expire: rfc3339(now_ms.saturating_add(lifetime_ms)),
    }))
}

/// Get storage limit and current storage usage
async fn get_storage_usage(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<StorageUsage>, ApiError> {
    if name != "storage" {
        let name: String = name.chars().take(64).collect();
        return Err(ApiError::bad_request(format!("unsupported limit {name}")));
    }
    Ok(Json(store::storage::find(&context.db, &user.tenant).await?))
}
