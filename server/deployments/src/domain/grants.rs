//! What a user's roles leave of deployments and releases.
//!
//! A user limited to groups creates deployments for devices of those groups only, and sees only
//! deployments all of whose targets are known to be in them; what he may not see is not there for him. A
//! user limited to tags sees only releases with one of them.

use std::collections::BTreeSet;

use ambidex_access::{Grants, TenantId};
use ambidex_wire::management::inventory::FilterPredicate;
use serde_json::Value;

use super::deployment::Visible;
use super::draft::Targets;
use crate::Context;
use crate::error::Error;
use crate::store;

/// Devices whose groups are looked up for a deployment of an unlimited user: enough for what the
/// specification promises (the group of a single device).
const GROUPS_SHOWN_DEVICES_MAX: usize = 1;

fn denied() -> Error {
    Error::Forbidden("Access denied (RBAC).".to_owned())
}

/// What of deployments the user sees; `None`: everything.
pub fn visible(grants: &Grants) -> Option<Visible> {
    grants.deployment_groups.as_ref().map(|groups| Visible {
        groups: groups.clone(),
        devices: grants.deployment_devices.clone(),
    })
}

/// Whether the user may create a deployment for these targets; the groups of the targets, as far as they
/// are known.
///
/// # Errors
/// 403 when a target is outside the user's groups; those of the inventory.
pub async fn check_targets(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
    targets: &Targets,
) -> Result<Vec<String>, Error> {
    let limited = grants.deployment_groups.is_some();
    match targets {
        Targets::Group(group) => {
            if !grants.may_deploy_to_group(group) {
                return Err(denied());
            }
            Ok(vec![group.clone()])
        }
        Targets::All | Targets::Filter { .. } if !limited => Ok(Vec::new()),
        Targets::All => Err(denied()),
        // Judged by its conditions, once they are known.
        Targets::Filter { .. } => Ok(Vec::new()),
        Targets::Devices(ids) => {
            if !limited && ids.len() > GROUPS_SHOWN_DEVICES_MAX {
                return Ok(Vec::new());
            }
            let ids: Vec<String> = ids.iter().cloned().collect();
            let found = context.ports.inventory.groups_of(tenant, &ids).await?;
            let allowed = ids
                .iter()
                .zip(&found)
                .all(|(id, group)| grants.may_deploy_to(id, group.as_deref()));
            if !allowed {
                return Err(denied());
            }
            let mut groups: Vec<String> = found.into_iter().flatten().collect();
            groups.sort_unstable();
            groups.dedup();
            Ok(groups)
        }
    }
}

/// Whether the user may create a deployment for whatever meets these conditions; the groups that they
/// name.
///
/// # Errors
/// 403 unless a condition keeps the deployment within the user's groups.
pub fn check_terms(grants: &Grants, terms: &[FilterPredicate]) -> Result<Vec<String>, Error> {
    let named = terms
        .iter()
        .filter(|term| term.scope == "system" && term.attribute == "group")
        .find_map(groups);
    match named {
        Some(groups) if groups.iter().all(|group| grants.may_deploy_to_group(group)) => Ok(groups),
        _ if grants.deployment_groups.is_none() => Ok(named.unwrap_or_default()),
        _ => Err(denied()),
    }
}

/// The groups that a condition on the group lets through.
fn groups(term: &FilterPredicate) -> Option<Vec<String>> {
    match (term.operator.as_str(), &term.value) {
        ("$eq", Value::String(group)) => Some(vec![group.clone()]),
        ("$in", Value::Array(groups)) => groups
            .iter()
            .map(|group| group.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// Whether the user may use this release.
///
/// # Errors
/// 403 when it has none of the user's tags.
pub async fn check_release(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
    name: &str,
) -> Result<(), Error> {
    if sees_release(context, tenant, grants, name).await? {
        Ok(())
    } else {
        Err(denied())
    }
}

/// Whether the user sees this release.
///
/// # Errors
/// Those of the store.
pub async fn sees_release(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
    name: &str,
) -> Result<bool, Error> {
    if grants.release_tags.is_none() {
        return Ok(true);
    }
    let notes = store::release::find(&context.db, tenant, name).await?;
    let tags = notes.map(|notes| notes.tags).unwrap_or_default();
    Ok(grants.sees_release(tags.iter().map(String::as_str)))
}

/// Names of the releases with a tag that the user sees.
///
/// # Errors
/// Those of the store.
pub async fn releases(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
) -> Result<BTreeSet<String>, Error> {
    Ok(store::release::list(&context.db, tenant)
        .await?
        .into_iter()
        .filter(|notes| grants.sees_release(notes.tags.iter().map(String::as_str)))
        .map(|notes| notes.name)
        .collect())
}

/// Whether the user sees this deployment.
///
/// # Errors
/// Those of the store.
pub async fn sees_deployment(
    context: &Context,
    tenant: &TenantId,
    grants: &Grants,
    id: &str,
) -> Result<bool, Error> {
    match visible(grants) {
        None => Ok(true),
        Some(visible) => store::deployment::is_visible(&context.db, tenant, id, visible).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn term(attribute: &str, operator: &str, value: Value) -> FilterPredicate {
        FilterPredicate {
            scope: "system".to_owned(),
            attribute: attribute.to_owned(),
            operator: operator.to_owned(),
            value,
        }
    }

    #[test]
    fn a_filter_must_stay_within_the_groups() {
        let limited = Grants {
            deployment_groups: Some(vec!["a".to_owned(), "b".to_owned()]),
            ..Grants::everything()
        };
        for (terms, allowed) in [
            (vec![], false),
            (vec![term("group", "$eq", json!("a"))], true),
            (vec![term("group", "$eq", json!("c"))], false),
            (vec![term("group", "$in", json!(["a", "b"]))], true),
            (vec![term("group", "$in", json!(["a", "c"]))], false),
            (vec![term("group", "$ne", json!("c"))], false),
            (vec![term("kind", "$eq", json!("a"))], false),
            (
                vec![
                    term("kind", "$eq", json!("x")),
                    term("group", "$eq", json!("b")),
                ],
                true,
            ),
        ] {
            assert_eq!(check_terms(&limited, &terms).is_ok(), allowed, "{terms:?}");
            assert!(check_terms(&Grants::everything(), &terms).is_ok());
        }
    }
}
