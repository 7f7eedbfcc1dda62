//! Releases as operators call them.

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody, current_request_id};
use ambidex_wire::management::deployments::{Artifact, Release, ReleaseChange, Software};
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use http::StatusCode;
use serde::Serialize;

use super::artifacts::paged;
use super::{MANAGEMENT_V1, MANAGEMENT_V2};
use crate::Context;
use crate::domain::release::{self, Deleted, Filter, Key, NameFilter, Sort};

/// Base path of the experimental API.
const MANAGEMENT_V1ALPHA1: &str = "/api/management/v1alpha1/deployments";

pub fn routes() -> Router<Context> {
    let v1 = |rest: &str| format!("{MANAGEMENT_V1}{rest}");
    let v2 = |rest: &str| format!("{MANAGEMENT_V2}{rest}");
    let alpha = |rest: &str| format!("{MANAGEMENT_V1ALPHA1}{rest}");
    Router::new()
        .route(&v1("/deployments/releases"), get(list_releases))
        .route(&v1("/deployments/releases/list"), get(list_releases_paged))
        .route(
            &v2("/deployments/releases"),
            get(list_releases_v2).delete(delete_releases),
        )
        .route(
            &v2("/deployments/releases/{name}"),
            get(get_release).patch(update_release_information),
        )
        .route(
            &v2("/deployments/releases/{name}/tags"),
            put(assign_release_tags),
        )
        .route(&v2("/releases/all/tags"), get(list_release_tags))
        .route(&v2("/releases/all/types"), get(list_release_types))
        .route(&alpha("/software"), get(get_deployment_software))
        .route(&alpha("/software/tags"), get(list_software_tags))
}

/// A release under both spellings of its keys: clients of different ages read different ones.
#[derive(Serialize)]
struct ShownRelease<'a> {
    #[serde(flatten)]
    release: &'a Release,
    #[serde(rename = "Name")]
    legacy_name: &'a str,
    #[serde(rename = "Modified")]
    legacy_modified: Option<&'a str>,
    #[serde(rename = "Artifacts")]
    legacy_artifacts: &'a [Artifact],
    #[serde(rename = "ArtifactsCount")]
    legacy_artifacts_count: u64,
}

impl<'a> From<&'a Release> for ShownRelease<'a> {
    fn from(release: &'a Release) -> Self {
        ShownRelease {
            legacy_name: &release.name,
            legacy_modified: release.modified.as_deref(),
            legacy_artifacts: &release.artifacts,
            legacy_artifacts_count: release.artifacts_count,
            release,
        }
    }
}

fn text(query: &QueryPairs, key: &str) -> Option<String> {
    query
        .first(key)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn sort(query: &QueryPairs) -> Result<Sort, ApiError> {
    match text(query, "sort") {
        None => Ok(Sort::default()),
        Some(text) => Ok(Sort::parse(&text)?),
    }
}

async fn list(
    context: &Context,
    user: &UserIdentity,
    filter: &Filter,
    sort: Sort,
) -> Result<Vec<Release>, ApiError> {
    let found = release::list(context, &user.tenant, &user.grants, filter, sort).await?;
    Ok(found.into_iter().map(release::Found::into_wire).collect())
}

/// List releases
async fn list_releases(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let filter = Filter {
        name: text(&query, "name").map(|name| NameFilter::Exact(vec![name])),
        ..Filter::default()
    };
    let releases = list(&context, &user, &filter, Sort::default()).await?;
    let shown: Vec<ShownRelease<'_>> = releases.iter().map(ShownRelease::from).collect();
    // Old clients expect everything at once, unless they ask for a page.
    if query.first("page").is_none() && query.first("per_page").is_none() {
        return Ok(Json(shown).into_response());
    }
    Ok(paged(shown, &page, &uri))
}

/// List releases with pagination
async fn list_releases_paged(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let filter = Filter {
        name: text(&query, "name").map(NameFilter::Contains),
        description: text(&query, "description"),
        device_type: text(&query, "device_type"),
        update_type: text(&query, "update_type"),
        tags: Vec::new(),
    };
    let releases = list(&context, &user, &filter, sort(&query)?).await?;
    let shown: Vec<ShownRelease<'_>> = releases.iter().map(ShownRelease::from).collect();
    Ok(paged(shown, &page, &uri))
}

fn tags(query: &QueryPairs) -> Vec<String> {
    query
        .all("tag")
        .filter(|tag| !tag.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// List releases, version 2
async fn list_releases_v2(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let filter = Filter {
        name: text(&query, "name").map(NameFilter::Contains),
        update_type: text(&query, "update_type"),
        tags: tags(&query),
        ..Filter::default()
    };
    let releases = list(&context, &user, &filter, sort(&query)?).await?;
    Ok(paged(releases, &page, &uri))
}

#[derive(Serialize)]
struct InUse {
    error: &'static str,
    active_deployments: Vec<String>,
    request_id: String,
}

/// Delete the releases with given names
async fn delete_releases(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let names: Vec<String> = query
        .all("name")
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    Ok(match release::delete(&context, &user, &names).await? {
        Deleted::Done => StatusCode::NO_CONTENT.into_response(),
        Deleted::InUse(active_deployments) => {
            let body = InUse {
                error: "active deployments are using some of the releases from the request",
                active_deployments,
                request_id: current_request_id(),
            };
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
    })
}

/// Get release
async fn get_release(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<Release>, ApiError> {
    let found = release::find(&context, &user.tenant, &user.grants, &name).await?;
    Ok(Json(found.into_wire()))
}

/// Update selected fields of the release
async fn update_release_information(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let change: ReleaseChange = body.json("malformed JSON in request body")?;
    match change.notes {
        Some(notes) => release::set_notes(&context, &user, &name, notes).await?,
        None => {
            release::find(&context, &user.tenant, &user.grants, &name).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Update and replace the tags of a release
async fn assign_release_tags(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let tags: Vec<String> = body.json("malformed JSON in request body")?;
    release::set_tags(&context, &user, &name, tags).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List all available tags for releases
async fn list_release_tags(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
) -> Result<Response, ApiError> {
    let tags = release::tags(&context, &user.tenant, &user.grants).await?;
    Ok(Json(tags).into_response())
}

/// List all release update types
async fn list_release_types(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
) -> Result<Response, ApiError> {
    let types = release::update_types(&context, &user.tenant, &user.grants).await?;
    Ok(Json(types).into_response())
}

/// Software comes in two kinds; this server knows releases only.
fn wants_releases(query: &QueryPairs) -> Result<bool, ApiError> {
    match text(query, "kind").as_deref() {
        None | Some("release") => Ok(true),
        Some("manifest") => Ok(false),
        Some(_) => Err(ApiError::bad_request("kind: must be release or manifest")),
    }
}

/// List software
async fn get_deployment_software(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let names: Vec<String> = query
        .all("name")
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let name = match (names.is_empty(), text(&query, "name_prefix")) {
        (true, None) => None,
        (true, Some(prefix)) => Some(NameFilter::Prefix(prefix)),
        (false, None) => Some(NameFilter::Exact(names)),
        (false, Some(_)) => {
            return Err(ApiError::bad_request(
                "name and name_prefix are mutually exclusive",
            ));
        }
    };
    let sort = sort(&query)?;
    if sort.key == Key::ArtifactsCount {
        return Err(ApiError::bad_request("invalid sort parameter"));
    }
    let filter = Filter {
        name,
        update_type: text(&query, "update_type"),
        tags: tags(&query),
        ..Filter::default()
    };
    let found = if wants_releases(&query)? {
        release::list(&context, &user.tenant, &user.grants, &filter, sort).await?
    } else {
        Vec::new()
    };
    let software: Vec<Software> = found
        .into_iter()
        .map(release::Found::into_software)
        .collect();
    Ok(paged(software, &page, &uri))
}

/// List all available tags for software
async fn list_software_tags(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let tags = if wants_releases(&query)? {
        release::tags(&context, &user.tenant, &user.grants).await?
    } else {
        Default::default()
    };
    Ok(Json(tags).into_response())
}
