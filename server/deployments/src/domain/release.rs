//! Releases: artifacts grouped by name, with the notes and tags of operators.
//!
//! The grouping is a view over the artifacts; only notes and tags are stored, and they go with the last
//! artifact of the name.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ambidex_access::{Grants, TenantId, UserIdentity};
use ambidex_kit::rfc3339;
use ambidex_wire::management::deployments::{Release, Software};

use super::{artifact, audit, grants, removal};
use crate::Context;
use crate::error::Error;
use crate::store;

/// Tags of one release.
pub const TAGS_MAX: usize = 20;
/// Different tags of all releases of a tenant.
pub const UNIQUE_TAGS_MAX: usize = 100;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 1024;
/// Longest notes, in characters.
pub const NOTES_CHARS_MAX: usize = 1024;

/// What operators noted about a release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    pub name: String,
    pub notes: String,
    /// Sorted, each once.
    pub tags: Vec<String>,
    pub modified_ms: i64,
}

/// By what a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Key {
    #[default]
    Name,
    Modified,
    ArtifactsCount,
    Tags,
}

/// A key and its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sort {
    pub key: Key,
    pub descending: bool,
}

impl Sort {
    /// Reads `key` or `key:asc` or `key:desc`.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let text: String = text.chars().take(64).collect();
            Error::invalid(format!("invalid sort parameter: {text}"))
        };
        let (key, direction) = text.split_once(':').unwrap_or((text, "asc"));
        Ok(Self {
            key: match key {
                "name" => Key::Name,
                "modified" => Key::Modified,
                "artifacts_count" => Key::ArtifactsCount,
                "tags" => Key::Tags,
                _ => return Err(wrong()),
            },
            descending: match direction {
                "asc" => false,
                "desc" => true,
                _ => return Err(wrong()),
            },
        })
    }
}

/// How a name is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameFilter {
    /// One of these.
    Exact(Vec<String>),
    Prefix(String),
    /// Contains this, in any case.
    Contains(String),
}

impl NameFilter {
    /// `foo*` is a beginning, anything else a whole text.
    ///
    /// # Errors
    /// 400 when a beginning is mixed with other texts.
    pub fn exact_or_prefix(values: Vec<String>) -> Result<Option<Self>, Error> {
        let prefix = values.iter().find_map(|value| value.strip_suffix('*'));
        match (prefix, values.len()) {
            (_, 0) => Ok(None),
            (None, _) => Ok(Some(Self::Exact(values))),
            (Some(prefix), 1) => Ok(Some(Self::Prefix(prefix.to_owned()))),
            (Some(_), _) => Err(Error::invalid(
                "prefix matching takes a single value and no exact values",
            )),
        }
    }

    /// Whether a text is as wanted.
    pub fn admits(&self, text: &str) -> bool {
        match self {
            Self::Exact(values) => values.iter().any(|value| value == text),
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Contains(part) => text.to_lowercase().contains(&part.to_lowercase()),
        }
    }
}

/// Which releases a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub name: Option<NameFilter>,
    /// One of its artifacts has this in its description.
    pub description: Option<String>,
    /// One of its artifacts is for this device type.
    pub device_type: Option<String>,
    /// One of its artifacts is installed so.
    pub update_type: Option<String>,
    /// It has one of these tags; empty: no matter.
    pub tags: Vec<String>,
}

impl Filter {
    fn admits(&self, release: &Found) -> bool {
        let artifacts = &release.artifacts;
        let any = |test: &dyn Fn(&artifact::Artifact) -> bool| artifacts.iter().any(test);
        self.name
            .as_ref()
            .is_none_or(|name| name.admits(&release.name))
            && self.description.as_ref().is_none_or(|part| {
                let part = part.to_lowercase();
                any(&|artifact| artifact.description.to_lowercase().contains(&part))
            })
            && self
                .device_type
                .as_ref()
                .is_none_or(|wanted| any(&|artifact| artifact.device_types.contains(wanted)))
            && self
                .update_type
                .as_ref()
                .is_none_or(|wanted| any(&|artifact| artifact.update_types().any(|t| t == wanted)))
            && (self.tags.is_empty()
                || release.notes.tags.iter().any(|tag| self.tags.contains(tag)))
    }
}

/// A release with all that is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub name: String,
    pub artifacts: Vec<artifact::Artifact>,
    pub notes: Notes,
}

impl Found {
    fn modified_ms(&self) -> i64 {
        self.artifacts
            .iter()
            .map(|artifact| artifact.modified_ms)
            .chain([self.notes.modified_ms])
            .max()
            .unwrap_or_default()
    }

    /// The release as clients see it.
    pub fn into_wire(self) -> Release {
        Release {
            modified: Some(rfc3339(self.modified_ms())),
            name: self.name,
            artifacts_count: self.artifacts.len() as u64,
            artifacts: self
                .artifacts
                .into_iter()
                .map(artifact::Artifact::into_wire)
                .collect(),
            tags: self.notes.tags,
            notes: self.notes.notes,
        }
    }

    /// The release without its artifacts.
    pub fn into_software(self) -> Software {
        let types: BTreeSet<&String> = self
            .artifacts
            .iter()
            .flat_map(|artifact| &artifact.device_types)
            .collect();
        Software {
            compatible_types: types.into_iter().cloned().collect(),
            modified: Some(rfc3339(self.modified_ms())),
            name: self.name,
            kind: "release".to_owned(),
            tags: self.notes.tags,
            notes: self.notes.notes,
        }
    }
}

/// Groups artifacts that are sorted by name.
fn group(artifacts: Vec<artifact::Artifact>, notes: Vec<Notes>) -> Vec<Found> {
    let mut notes: BTreeMap<String, Notes> = notes
        .into_iter()
        .map(|notes| (notes.name.clone(), notes))
        .collect();
    let mut releases: Vec<Found> = Vec::new();
    for artifact in artifacts {
        match releases.last_mut() {
            Some(release) if release.name == artifact.name => release.artifacts.push(artifact),
            _ => releases.push(Found {
                name: artifact.name.clone(),
                notes: notes.remove(&artifact.name).unwrap_or_default(),
                artifacts: vec![artifact],
            }),
        }
    }
    releases
}

/// The releases that the user sees and the filter admits, in order.
///
/// # Errors
/// Those of the store.
pub async fn list(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
    filter: &Filter,
    sort: Sort,
) -> Result<Vec<Found>, Error> {
    let name = match &filter.name {
        Some(NameFilter::Exact(names)) => match names.as_slice() {
            [name] => Some(name.as_str()),
            _ => None,
        },
        _ => None,
    };
    let artifacts = store::artifact::list(&context.db, tenant, name).await?;
    let notes = store::release::list(&context.db, tenant).await?;
    let mut releases = group(artifacts, notes);
    releases.retain(|release| {
        grants.sees_release(release.notes.tags.iter().map(String::as_str)) && filter.admits(release)
    });
    releases.sort_by(|a, b| {
        let ordering = match sort.key {
            Key::Name => Ordering::Equal,
            Key::Modified => a.modified_ms().cmp(&b.modified_ms()),
            Key::ArtifactsCount => a.artifacts.len().cmp(&b.artifacts.len()),
            Key::Tags => a.notes.tags.cmp(&b.notes.tags),
        };
        let ordering = ordering.then_with(|| a.name.cmp(&b.name));
        if sort.descending {
            ordering.reverse()
        } else {
            ordering
        }
    });
    Ok(releases)
}

/// One release.
///
/// # Errors
/// 404 when it has no artifact, or the user does not see it.
pub async fn find(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
    name: &str,
) -> Result<Found, Error> {
    let filter = Filter {
        name: Some(NameFilter::Exact(vec![name.to_owned()])),
        ..Filter::default()
    };
    list(context, tenant, grants, &filter, Sort::default())
        .await?
        .pop()
        .ok_or(Error::RESOURCE_NOT_FOUND)
}

/// All tags of the releases that the user sees, each once.
///
/// # Errors
/// Those of the store.
pub async fn tags(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
) -> Result<BTreeSet<String>, Error> {
    Ok(store::release::list(&context.db, tenant)
        .await?
        .into_iter()
        .filter(|notes| grants.sees_release(notes.tags.iter().map(String::as_str)))
        .flat_map(|notes| notes.tags)
        .collect())
}

/// All update types of the releases that the user sees, each once.
///
/// # Errors
/// Those of the store.
pub async fn update_types(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
) -> Result<BTreeSet<String>, Error> {
    let (filter, sort) = (Filter::default(), Sort::default());
    Ok(list(context, tenant, grants, &filter, sort)
        .await?
        .iter()
        .flat_map(|release| &release.artifacts)
        .flat_map(artifact::Artifact::update_types)
        .map(str::to_owned)
        .collect())
}

/// Brings tags into their form: lower case, sorted, each once.
///
/// # Errors
/// 400 that names what is wrong.
pub fn check_tags(tags: Vec<String>) -> Result<Vec<String>, Error> {
    let tags: BTreeSet<String> = tags.into_iter().map(|tag| tag.to_lowercase()).collect();
    if tags.len() > TAGS_MAX {
        return Err(Error::invalid(format!(
            "the total number of tags per release exceeded maximum of {TAGS_MAX}"
        )));
    }
    for tag in &tags {
        if tag.is_empty() {
            return Err(Error::invalid("tag cannot be empty"));
        }
        if tag.len() > TAG_BYTES_MAX {
            return Err(Error::invalid(format!(
                "tag must be less than {TAG_BYTES_MAX} characters"
            )));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(c) = tag.chars().find(|c| !allowed(*c)) {
            let tag: String = tag.chars().take(64).collect();
            return Err(Error::invalid(format!(
                "invalid character '{}' in string \"{tag}\"",
                c.escape_default()
            )));
        }
    }
    Ok(tags.into_iter().collect())
}

/// Replaces the tags of a release (`assign_release_tags`).
///
/// # Errors
/// 400 for wrong tags, 404 for an unknown release, 409 when the tenant would have too many different ones.
pub async fn set_tags(
    context: &Context,
    user: &UserIdentity,
    name: &str,
    tags: Vec<String>,
) -> Result<(), Error> {
    let tags = check_tags(tags)?;
    let change = format!("tags: {}", tags.join(", "));
    edit(context, user, name, change, move |notes, others| {
        let unique: BTreeSet<&String> = others.iter().chain(&tags).collect();
        if unique.len() > UNIQUE_TAGS_MAX {
            return Err(Error::Conflict(format!(
                "the total number of unique tags ({UNIQUE_TAGS_MAX}) has been exceeded"
            )));
        }
        notes.tags = tags;
        Ok(())
    })
    .await
}

/// Replaces the notes of a release (`update_release_information`).
///
/// # Errors
/// 400 for wrong notes, 404 for an unknown release.
pub async fn set_notes(
    context: &Context,
    user: &UserIdentity,
    name: &str,
    text: String,
) -> Result<(), Error> {
    if text.chars().count() > NOTES_CHARS_MAX {
        return Err(Error::invalid("release notes too long"));
    }
    let strange = |c: &char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.chars().any(|c| strange(&c)) {
        return Err(Error::invalid(
            "release notes contain characters which are not allowed",
        ));
    }
    edit(
        context,
        user,
        name,
        "notes changed".to_owned(),
        move |notes, _| {
            notes.notes = text;
            Ok(())
        },
    )
    .await
}

/// Changes what is noted about a release; `change` gets it, and the tags of all others.
async fn edit(
    context: &Context,
    user: &UserIdentity,
    name: &str,
    change: String,
    edit: impl FnOnce(&mut Notes, &[String]) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let tenant = user.tenant.clone();
    find(context, &tenant, &user.grants, name).await?;
    let now_ms = context.clock.now_ms();
    let audit = audit::release(context, user, name, change);
    let name = name.to_owned();
    context
        .db
        .transaction(move |tx| {
            let (mut own, others): (Vec<Notes>, Vec<Notes>) =
                store::release::list_within(tx, &tenant)?
                    .into_iter()
                    .partition(|notes| notes.name == name);
            let mut notes = own.pop().unwrap_or(Notes {
                name,
                ..Notes::default()
            });
            let others: Vec<String> = others.into_iter().flat_map(|notes| notes.tags).collect();
            edit(&mut notes, &others)?;
            notes.modified_ms = now_ms;
            store::release::save_within(tx, &tenant, &notes)?;
            tx.execute(audit.sql(), audit.params())?;
            Ok::<_, Error>(())
        })
        .await?;
    context.jobs.wake();
    Ok(())
}

/// What came of deleting releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    Done,
    /// Nothing was deleted: these unfinished deployments use some of them.
    InUse(Vec<String>),
}

/// Deletes releases with all their artifacts; unknown ones are fine.
///
/// # Errors
/// 400 for no name, 403 for a release that the user does not see; those of the store.
pub async fn delete(
    context: &Context,
    user: &UserIdentity,
    names: &[String],
) -> Result<Deleted, Error> {
    if names.is_empty() {
        return Err(Error::invalid(
            "at least one release name has to be provided",
        ));
    }
    let tenant = &user.tenant;
    let mut using = Vec::new();
    for name in names {
        grants::check_release(context, tenant, &user.grants, name).await?;
        using.extend(store::deployment::using(&context.db, tenant, name).await?);
    }
    if !using.is_empty() {
        using.sort_unstable();
        using.dedup();
        return Ok(Deleted::InUse(using));
    }
    for name in names {
        for artifact in store::artifact::list(&context.db, tenant, Some(name)).await? {
            match removal::remove(context, user, &artifact.id).await {
                // Somebody else deleted it, which is as well.
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Deleted::Done)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn tags_have_one_form() {
        let tags = |list: &[&str]| check_tags(list.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!(
            tags(&["B", "a", "b", "x.y-z_1"]).unwrap(),
            ["a", "b", "x.y-z_1"]
        );
        for wrong in [vec![""], vec!["a b"], vec!["ü"]] {
            assert!(tags(&wrong).is_err(), "{wrong:?}");
        }
        let many: Vec<String> = (0..=TAGS_MAX).map(|n| format!("t{n}")).collect();
        assert!(check_tags(many[1..].to_vec()).is_ok());
        assert!(check_tags(many).is_err());
        assert!(check_tags(vec!["a".repeat(TAG_BYTES_MAX)]).is_ok());
        assert!(check_tags(vec!["a".repeat(TAG_BYTES_MAX + 1)]).is_err());
    }

    #[test]
    fn sorts_and_name_filters_are_parsed() {
        assert_eq!(Sort::parse("name").unwrap(), Sort::default());
        assert!(Sort::parse("tags:desc").unwrap().descending);
        for wrong in ["", "size", "name:up", "name:asc:asc"] {
            assert!(Sort::parse(wrong).is_err(), "{wrong}");
        }
        let filter = |list: &[&str]| {
            NameFilter::exact_or_prefix(list.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(filter(&[]).unwrap(), None);
        let prefix = filter(&["fo*"]).unwrap().unwrap();
        assert!(prefix.admits("foo") && !prefix.admits("bar"));
        let exact = filter(&["foo", "bar"]).unwrap().unwrap();
        assert!(exact.admits("bar") && !exact.admits("fo"));
        assert!(filter(&["foo*", "bar"]).is_err());
        assert!(NameFilter::Contains("OO".into()).admits("foo"));
    }
}
