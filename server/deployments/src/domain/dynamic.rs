//! Deployments for whatever devices meet a filter: which of them a device may join.

use ambidex_access::TenantId;
use ambidex_db::DbError;
use ambidex_wire::management::inventory::{Filter, FilterPredicate};

use crate::Context;
use crate::error::Error;
use crate::store;
use crate::store::device::Open;
use crate::store::dynamic::CANDIDATES_MAX;

/// The oldest deployment that the device may join, if it comes before `waiting`, else `waiting`.
///
/// The conditions are those that were embedded when the deployment was created; the device's inventory
/// is read at this moment, so a device that changes may join with its next poll.
///
/// # Errors
/// Those of the store and of the inventory.
pub async fn earliest(
    context: &Context,
    tenant: &TenantId,
    device_id: &str,
    waiting: Option<Open>,
    now_ms: i64,
) -> Result<Option<Open>, Error> {
    let before = waiting.as_ref().map_or(i64::MAX, |open| open.place);
    let mut after = 0;
    loop {
        let candidates =
            store::dynamic::candidates(&context.db, tenant, device_id, now_ms, after, before)
                .await?;
        let last = candidates.len() < CANDIDATES_MAX;
        let terms: Vec<Vec<FilterPredicate>> = candidates
            .iter()
            .map(|candidate| parse(&candidate.filter).map(|filter| filter.terms))
            .collect::<Result<_, _>>()?;
        if !terms.is_empty()
            && let Some(index) = context
                .ports
                .filters
                .first_match(tenant, device_id, &terms)
                .await?
        {
            return Ok(candidates
                .into_iter()
                .nth(index)
                .map(|candidate| candidate.open));
        }
        match candidates.last() {
            Some(candidate) if !last => after = candidate.open.place,
            _ => return Ok(waiting),
        }
    }
}

fn parse(text: &str) -> Result<Filter, Error> {
    serde_json::from_str(text).map_err(|error| {
        DbError::Corrupt(format!(
            "column deployments.filter holds no filter: {error}"
        ))
        .into()
    })
}
