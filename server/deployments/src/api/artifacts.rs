//! Artifacts, releases and their storage, as operators call them.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, link_headers, rfc3339};
use ambidex_wire::management::deployments::{
    Artifact, ArtifactChange, ArtifactLink, Release, StorageUsage,
};
use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::LOCATION;
use serde::Serialize;

use super::{MANAGEMENT_V1, download, id, origin::Origin, upload};
use crate::Context;
use crate::domain::{artifact, release, removal};
use crate::error::Error;
use crate::store;

pub fn routes() -> Router<Context> {
    let path = |rest: &str| format!("{MANAGEMENT_V1}{rest}");
    Router::new()
        .route(&path("/deployments/releases"), get(list_releases))
        .route(
            &path("/artifacts"),
            // The artifact is streamed; its own limit counts.
            get(list_artifacts)
                .post(upload_artifact)
                .layer(DefaultBodyLimit::disable()),
        )
        .route(&path("/artifacts/list"), get(list_artifacts_paged))
        .route(
            &path("/artifacts/{id}"),
            get(show_artifact)
                .put(update_artifact_info)
                .delete(delete_artifact),
        )
        .route(&path("/artifacts/{id}/download"), get(download_artifact))
        .route(&path("/limits/{name}"), get(get_storage_usage))
}

/// A release under both spellings of its keys: clients of different ages read different ones.
#[derive(Serialize)]
struct ShownRelease<'a> {
    name: &'a str,
    artifacts: &'a [Artifact],
    #[serde(rename = "Name")]
    legacy_name: &'a str,
    #[serde(rename = "Artifacts")]
    legacy_artifacts: &'a [Artifact],
}

impl<'a> From<&'a Release> for ShownRelease<'a> {
    fn from(release: &'a Release) -> Self {
        ShownRelease {
            name: &release.name,
            artifacts: &release.artifacts,
            legacy_name: &release.name,
            legacy_artifacts: &release.artifacts,
        }
    }
}

/// List releases
async fn list_releases(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let name = query.first("name").filter(|name| !name.is_empty());
    let artifacts = store::artifact::list(&context.db, &user.tenant, name).await?;
    let releases = release::group(artifacts.into_iter().map(artifact::Artifact::into_wire));
    let shown: Vec<ShownRelease<'_>> = releases.iter().map(ShownRelease::from).collect();
    // Old clients expect everything at once, unless they ask for a page.
    if query.first("page").is_none() && query.first("per_page").is_none() {
        return Ok(Json(shown).into_response());
    }
    Ok(paged(shown, &page, &uri))
}

/// The wanted page of a list that is in memory, with its headers.
fn paged<T: Serialize>(all: Vec<T>, page: &Page, uri: &http::Uri) -> Response {
    let total = all.len() as u64;
    let skip = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let take = usize::try_from(page.per_page).unwrap_or(usize::MAX);
    let has_next = page.offset().saturating_add(page.per_page) < total;
    let items: Vec<T> = all.into_iter().skip(skip).take(take).collect();
    (link_headers(uri, page, has_next, Some(total)), Json(items)).into_response()
}

async fn artifacts(
    context: &Context,
    tenant: &ambidex_access::TenantId,
    query: &QueryPairs,
) -> Result<Vec<Artifact>, Error> {
    let name = query.first("name").filter(|name| !name.is_empty());
    let device_type = query.first("device_type").filter(|text| !text.is_empty());
    Ok(store::artifact::list(&context.db, tenant, name)
        .await?
        .into_iter()
        .filter(|artifact| {
            device_type
                .is_none_or(|wanted| artifact.device_types.iter().any(|known| known == wanted))
        })
        .map(artifact::Artifact::into_wire)
        .collect())
}

/// List known artifacts
async fn list_artifacts(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
) -> Result<Json<Vec<Artifact>>, ApiError> {
    Ok(Json(artifacts(&context, &user.tenant, &query).await?))
}

/// List known artifacts, a page at a time
async fn list_artifacts_paged(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    Ok(paged(
        artifacts(&context, &user.tenant, &query).await?,
        &page,
        &uri,
    ))
}

/// Upload mender artifact
async fn upload_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    request: Request,
) -> Result<Response, ApiError> {
    let id = upload::receive(&context, &user.tenant, request).await?;
    Ok(created(&id))
}

/// 201 with the place of an artifact.
pub fn created(id: &str) -> Response {
    let location = format!("{MANAGEMENT_V1}/artifacts/{id}");
    (StatusCode::CREATED, [(LOCATION, location)]).into_response()
}

async fn found(
    context: &Context,
    tenant: &ambidex_access::TenantId,
    id: &str,
) -> Result<artifact::Artifact, ApiError> {
    let id = id::parse(id)?;
    Ok(store::artifact::find(&context.db, tenant, &id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?)
}

/// Get the details of a selected artifact
async fn show_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Artifact>, ApiError> {
    Ok(Json(found(&context, &user.tenant, &id).await?.into_wire()))
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
    removal::describe(&context, &user.tenant, &id, &change.description).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete the artifact
async fn delete_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    removal::remove(&context, &user.tenant, &id::parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get the download link of a selected artifact
async fn download_artifact(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    Origin(origin): Origin,
) -> Result<Json<ArtifactLink>, ApiError> {
    let artifact = found(&context, &user.tenant, &id).await?;
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
