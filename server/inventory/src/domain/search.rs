//! Searches: conditions, order, projection.
//!
//! What has a column is decided by the database through its indexes. Whatever is left (arbitrary attributes) is
//! decided here in one pass over the remaining devices, in slices, so that neither memory nor a thread is held for
//! long: a pass keeps the best of one page only.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use ambidex_access::TenantId;
use ambidex_db::DbError;
use ambidex_wire::inventory::AttributeValue;
use ambidex_wire::management::inventory::DeviceInventory;

use super::device::show;
use super::document::Document;
use super::predicate::{AttributeKey, Found, Operand, Term, Test};
use super::reach::Reach;
use super::scope::Scope;
use super::sort::{Direction, Rank, SortBy};
use super::text;
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::device;
use crate::store::selection::{self, Candidate, Condition, SIEVE_BYTES_MAX};

/// Devices of one slice of a pass: a few milliseconds of work between two awaits.
const SLICE: u64 = 1000;
/// Ids of one search: both database engines take some ten thousand parameters a statement.
pub const IDS_MAX: usize = 10_000;

/// A checked search.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// All of them hold.
    pub terms: Vec<Term>,
    pub sort: Vec<SortBy>,
    /// Only these devices.
    pub device_ids: Option<Vec<String>>,
    /// These words, in lower case, all occur in the device's id or in the value of an attribute.
    pub words: Vec<String>,
    /// Show only these attributes.
    pub attributes: Option<HashSet<AttributeKey>>,
    /// Only devices that the caller may see.
    pub reach: Reach,
}

/// A search split between the database and the pass.
struct Plan<'a> {
    conditions: Vec<Condition>,
    terms: Vec<&'a Term>,
    words: &'a [String],
    /// The database can order and page by itself: by age, newest first or not.
    newest_first: Option<bool>,
}

impl Search {
    fn plan(&self, mut conditions: Vec<Condition>) -> Plan<'_> {
        conditions.extend(self.reach.condition());
        if let Some(ids) = &self.device_ids {
            conditions.push(Condition::IdIn(ids.clone()));
        }
        let mut terms = Vec::new();
        for term in &self.terms {
            match delegate(term) {
                Some(condition) => conditions.push(condition),
                None => {
                    conditions.extend(sieve(term));
                    terms.push(term);
                }
            }
        }
        let decided = terms.is_empty() && self.words.is_empty();
        let newest_first = match (decided, self.sort.as_slice()) {
            (true, []) => Some(false),
            (true, [by]) if by.key.scope == Scope::System && by.key.name == "created_ts" => {
                Some(by.direction == Direction::Descending)
            }
            _ => None,
        };
        Plan {
            conditions,
            terms,
            words: &self.words,
            newest_first,
        }
    }
}

/// The condition that says exactly what the term says, if the database can decide it.
fn delegate(term: &Term) -> Option<Condition> {
    type Make = fn(Vec<String>) -> Condition;
    let (within, without): (Make, Option<Make>) = match (term.key.scope, term.key.name.as_str()) {
        (Scope::Identity, "status") => (Condition::StatusIn, Some(Condition::StatusNotIn)),
        (Scope::System, "group") => (Condition::GroupIn, Some(Condition::GroupNotIn)),
        (Scope::Identity, "id") => (Condition::IdIn, None),
        _ => return None,
    };
    // Only texts equal these attributes; the empty text stands for "not there" in the database.
    let texts = |operands: &[Operand]| -> Vec<String> {
        operands
            .iter()
            .filter_map(|operand| match operand {
                Operand::Text(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            })
            .collect()
    };
    match &term.test {
        Test::Equal(operand) => Some(within(texts(std::slice::from_ref(operand)))),
        Test::In(operands) if operands.len() <= IDS_MAX => Some(within(texts(operands))),
        Test::NotEqual(operand) => Some(without?(texts(std::slice::from_ref(operand)))),
        Test::NotIn(operands) if operands.len() <= IDS_MAX => Some(without?(texts(operands))),
        Test::Exists(true) => Some(without?(vec![String::new()])),
        // A device always has an id.
        Test::Exists(false) => without.map(|_| within(vec![String::new()])),
        _ => None,
    }
}

/// A condition that drops most devices which cannot meet the term before they are read.
fn sieve(term: &Term) -> Option<Condition> {
    let Test::Equal(Operand::Text(text)) = &term.test else {
        return None;
    };
    if column(&term.key) {
        return None;
    }
    let quoted = serde_json::to_string(text).ok()?;
    let inner = &quoted[1..quoted.len() - 1];
    (!inner.is_empty() && inner.len() <= SIEVE_BYTES_MAX)
        .then(|| Condition::DocumentContains(term.key.scope, inner.to_owned()))
}

/// Whether the attribute is a column and not part of a document.
fn column(key: &AttributeKey) -> bool {
    matches!(
        (key.scope, key.name.as_str()),
        (Scope::Identity, "id" | "status")
            | (
                Scope::System,
                "group" | "created_ts" | "updated_ts" | "check_in_time"
            )
    )
}

/// The attributes that a pass looks at, each once.
pub(super) struct Lookup<'a> {
    keys: Vec<&'a AttributeKey>,
    /// Documents to read: names and where their values go.
    documents: Vec<(Scope, Vec<&'a str>, Vec<usize>)>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(keys: impl Iterator<Item = &'a AttributeKey>) -> Lookup<'a> {
        let mut lookup = Lookup {
            keys: Vec::new(),
            documents: Vec::new(),
        };
        for key in keys {
            if lookup.keys.contains(&key) {
                continue;
            }
            let position = lookup.keys.len();
            lookup.keys.push(key);
            if column(key) {
                continue;
            }
            match lookup
                .documents
                .iter_mut()
                .find(|(scope, _, _)| *scope == key.scope)
            {
                Some((_, names, positions)) => {
                    names.push(&key.name);
                    positions.push(position);
                }
                None => lookup
                    .documents
                    .push((key.scope, vec![&key.name], vec![position])),
            }
        }
        lookup
    }

    pub(super) fn position(&self, key: &AttributeKey) -> usize {
        self.keys
            .iter()
            .position(|known| *known == key)
            .unwrap_or(usize::MAX)
    }

    pub(super) fn scopes(&self) -> Vec<Scope> {
        self.documents.iter().map(|(scope, _, _)| *scope).collect()
    }

    pub(super) fn find(&self, candidate: &Candidate) -> Result<Vec<Option<Found>>, InventoryError> {
        let text = |text: &str| {
            (!text.is_empty()).then(|| Found::Value(AttributeValue::Text(text.to_owned())))
        };
        let mut found: Vec<Option<Found>> = self
            .keys
            .iter()
            .map(|key| match (key.scope, key.name.as_str()) {
                (Scope::Identity, "id") => text(&candidate.id),
                (Scope::Identity, "status") => text(&candidate.status),
                (Scope::System, "group") => text(&candidate.group),
                (Scope::System, "created_ts") => Some(Found::Time(candidate.created_ms)),
                (Scope::System, "updated_ts") => Some(Found::Time(candidate.updated_ms)),
                (Scope::System, "check_in_time") => {
                    (candidate.check_in_ms > 0).then_some(Found::Time(candidate.check_in_ms))
                }
                _ => None,
            })
            .collect();
        for ((scope, names, positions), document) in self.documents.iter().zip(&candidate.documents)
        {
            let picked = Document::pick(document, names).map_err(|error| {
                DbError::Corrupt(format!(
                    "{} attributes of device {}: {error}",
                    scope.as_str(),
                    candidate.id
                ))
            })?;
            for (position, value) in positions.iter().zip(picked) {
                found[*position] = value.map(Found::Value);
            }
        }
        Ok(found)
    }
}

/// A device that met the conditions, with what it sorts by.
struct Hit {
    ranks: Vec<Rank>,
    created_ms: i64,
    id: String,
}

fn order(sort: &[SortBy], left: &Hit, right: &Hit) -> Ordering {
    sort.iter()
        .zip(left.ranks.iter().zip(&right.ranks))
        .map(|(by, (left, right))| by.compare(left, right))
        .find(|ordering| ordering.is_ne())
        .unwrap_or_else(|| {
            left.created_ms
                .cmp(&right.created_ms)
                .then_with(|| left.id.cmp(&right.id))
        })
}

impl Inventory {
    /// The devices that meet the search, `limit` of them from `offset` on, and how many there are.
    ///
    /// # Errors
    /// The database failed.
    pub async fn search(
        &self,
        tenant: &TenantId,
        search: &Search,
        limit: u64,
        offset: u64,
    ) -> Result<(Vec<DeviceInventory>, u64), InventoryError> {
        let db = &self.inner.db;
        let plan = search.plan(Vec::new());
        let (rows, total) = match plan.newest_first {
            Some(newest_first) => {
                let total = selection::count(db, tenant.as_str(), &plan.conditions).await?;
                let rows = selection::page(
                    db,
                    tenant.as_str(),
                    &plan.conditions,
                    newest_first,
                    limit,
                    offset,
                )
                .await?;
                (rows, total)
            }
            None => {
                let (ids, total) = self.pass(tenant, search, &plan, limit, offset).await?;
                let rows = device::by_ids(db, tenant.as_str(), &ids).await?;
                let mut by_id: HashMap<String, _> =
                    rows.into_iter().map(|row| (row.id.clone(), row)).collect();
                (
                    ids.iter().filter_map(|id| by_id.remove(id)).collect(),
                    total,
                )
            }
        };
        let mut devices = rows.iter().map(show).collect::<Result<Vec<_>, _>>()?;
        if let Some(wanted) = &search.attributes {
            for device in &mut devices {
                device.attributes.retain(|attribute| {
                    Scope::parse(&attribute.scope).is_some_and(|scope| {
                        wanted.contains(&AttributeKey {
                            scope,
                            name: attribute.name.clone(),
                        })
                    })
                });
            }
        }
        Ok((devices, total))
    }

    /// Ids of all devices that meet the search and the conditions.
    pub(super) async fn matching_ids(
        &self,
        tenant: &TenantId,
        search: &Search,
        conditions: Vec<Condition>,
    ) -> Result<Vec<String>, InventoryError> {
        let plan = search.plan(conditions);
        if plan.terms.is_empty() && plan.words.is_empty() {
            return Ok(
                selection::all_ids(&self.inner.db, tenant.as_str(), &plan.conditions).await?,
            );
        }
        Ok(self
            .pass(tenant, &Search::default(), &plan, u64::MAX, 0)
            .await?
            .0)
    }

    /// How many devices meet the search and the conditions.
    pub(super) async fn count_hits(
        &self,
        tenant: &TenantId,
        search: &Search,
        conditions: Vec<Condition>,
    ) -> Result<u64, InventoryError> {
        let plan = search.plan(conditions);
        if plan.terms.is_empty() && plan.words.is_empty() {
            return Ok(selection::count(&self.inner.db, tenant.as_str(), &plan.conditions).await?);
        }
        let all = Search::default();
        Ok(self.pass(tenant, &all, &plan, 0, 0).await?.1)
    }

    /// Goes over the devices that meet the plan's conditions; returns the ids of one page and the number of hits.
    async fn pass(
        &self,
        tenant: &TenantId,
        search: &Search,
        plan: &Plan<'_>,
        limit: u64,
        offset: u64,
    ) -> Result<(Vec<String>, u64), InventoryError> {
        let lookup = Lookup::new(
            plan.terms
                .iter()
                .map(|term| &term.key)
                .chain(search.sort.iter().map(|by| &by.key)),
        );
        let mut scopes = lookup.scopes();
        if !plan.words.is_empty() {
            let others = Scope::ALL
                .into_iter()
                .filter(|scope| !scopes.contains(scope));
            let others: Vec<Scope> = others.collect();
            scopes.extend(others);
        }
        let terms: Vec<(&Term, usize)> = plan
            .terms
            .iter()
            .map(|term| (*term, lookup.position(&term.key)))
            .collect();
        let ranked: Vec<(&SortBy, usize)> = search
            .sort
            .iter()
            .map(|by| (by, lookup.position(&by.key)))
            .collect();
        let (first, end) = (
            usize::try_from(offset).unwrap_or(usize::MAX),
            usize::try_from(offset.saturating_add(limit)).unwrap_or(usize::MAX),
        );
        let mut hits: Vec<Hit> = Vec::new();
        let mut total: u64 = 0;
        let mut last = (i64::MIN, String::new());
        loop {
            let after = (last.0, last.1.as_str());
            let slice = selection::candidates(
                &self.inner.db,
                tenant.as_str(),
                &plan.conditions,
                &scopes,
                after,
                SLICE,
            )
            .await?;
            let complete = (slice.len() as u64) < SLICE;
            if let Some(candidate) = slice.last() {
                last = (candidate.created_ms, candidate.id.clone());
            }
            for candidate in slice {
                let found = lookup.find(&candidate)?;
                let attribute = |position: usize| found.get(position).and_then(Option::as_ref);
                if !plan.words.is_empty() && !text::contains(&candidate, plan.words)? {
                    continue;
                }
                if !terms
                    .iter()
                    .all(|(term, position)| term.holds(attribute(*position)))
                {
                    continue;
                }
                total += 1;
                // Without an order the hits come as they are shown: past the page they only count.
                if search.sort.is_empty() && hits.len() >= end {
                    continue;
                }
                let ranks = ranked
                    .iter()
                    .map(|(by, position)| by.rank(attribute(*position)))
                    .collect();
                hits.push(Hit {
                    ranks,
                    created_ms: candidate.created_ms,
                    id: candidate.id,
                });
            }
            if hits.len() > end.saturating_mul(2).saturating_add(10_000) {
                hits.sort_unstable_by(|left, right| order(&search.sort, left, right));
                hits.truncate(end);
            }
            if complete {
                break;
            }
        }
        if !search.sort.is_empty() {
            hits.sort_unstable_by(|left, right| order(&search.sort, left, right));
        }
        hits.truncate(end);
        Ok((
            hits.into_iter().skip(first).map(|hit| hit.id).collect(),
            total,
        ))
    }
}
