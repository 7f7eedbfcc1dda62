//! Devices by what has a column: pages, counts and passes over many devices.

use std::collections::HashMap;

use ambidex_db::{Db, DbError, Value, params};

use super::device::{COLUMNS, DeviceRow, map};
use super::placeholders;
use crate::domain::scope::Scope;

/// What the database can decide by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    StatusIn(Vec<String>),
    StatusNotIn(Vec<String>),
    GroupIn(Vec<String>),
    GroupNotIn(Vec<String>),
    IdIn(Vec<String>),
    /// In one of the groups, or one of these devices.
    Within {
        groups: Vec<String>,
        ids: Vec<String>,
    },
    /// The document of a scope contains this text. A rough sieve: more may pass than match.
    DocumentContains(Scope, String),
}

/// A part of a device, as a pass reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: String,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub check_in_ms: i64,
    pub status: String,
    pub group: String,
    /// The documents that were asked for, in that order.
    pub documents: Vec<String>,
}

/// Longest text of a sieve, in bytes: the engines bound the length of patterns.
pub const SIEVE_BYTES_MAX: usize = 1000;

/// The `WHERE` of a selection and its parameters; the tenant is `$1`.
fn where_clause(tenant: &str, conditions: &[Condition]) -> (String, Vec<Value>) {
    let mut sql = String::from(" FROM inventory_devices WHERE tenant_id = $1");
    let mut values = params![tenant];
    for condition in conditions {
        let (column, not, list) = match condition {
            Condition::StatusIn(list) => ("status", false, list),
            Condition::StatusNotIn(list) => ("status", true, list),
            Condition::GroupIn(list) => ("group_name", false, list),
            Condition::GroupNotIn(list) => ("group_name", true, list),
            Condition::IdIn(list) => ("id", false, list),
            Condition::Within { groups, ids } => {
                let mut either = Vec::new();
                for (column, list) in [("group_name", groups), ("id", ids)] {
                    // The empty name stands for no group.
                    let list: Vec<&String> = list.iter().filter(|name| !name.is_empty()).collect();
                    if !list.is_empty() {
                        let marks = placeholders(values.len() + 1, list.len());
                        either.push(format!("{column} IN ({marks})"));
                        values.extend(list.into_iter().map(Value::from));
                    }
                }
                sql.push_str(&match either.is_empty() {
                    true => " AND 1 = 0".to_owned(),
                    false => format!(" AND ({})", either.join(" OR ")),
                });
                continue;
            }
            Condition::DocumentContains(scope, text) => {
                let number = values.len() + 1;
                sql.push_str(&format!(
                    " AND {} LIKE ${number} ESCAPE '!'",
                    scope.as_str()
                ));
                let text = text
                    .replace('!', "!!")
                    .replace('%', "!%")
                    .replace('_', "!_");
                values.push(Value::Text(format!("%{text}%")));
                continue;
            }
        };
        let number = values.len() + 1;
        match (list.as_slice(), not) {
            // Nothing is in an empty list.
            ([], false) => sql.push_str(" AND 1 = 0"),
            ([], true) => {}
            // An equality keeps the order of the index, a list does not.
            ([_], false) => sql.push_str(&format!(" AND {column} = ${number}")),
            ([_], true) => sql.push_str(&format!(" AND {column} <> ${number}")),
            (many, false) => sql.push_str(&format!(
                " AND {column} IN ({})",
                placeholders(number, many.len())
            )),
            (many, true) => sql.push_str(&format!(
                " AND {column} NOT IN ({})",
                placeholders(number, many.len())
            )),
        }
        values.extend(list.iter().map(Value::from));
    }
    (sql, values)
}

/// Whole devices by age.
pub async fn page(
    db: &Db,
    tenant: &str,
    conditions: &[Condition],
    newest_first: bool,
    limit: u64,
    offset: u64,
) -> Result<Vec<DeviceRow>, DbError> {
    let (clause, mut values) = where_clause(tenant, conditions);
    let order = if newest_first {
        "created_ms DESC, id DESC"
    } else {
        "created_ms, id"
    };
    let (at, after) = (values.len() + 1, values.len() + 2);
    values.extend(params![limit, offset]);
    let sql = format!("SELECT {COLUMNS}{clause} ORDER BY {order} LIMIT ${at} OFFSET ${after}");
    db.query(sql, values).await?.iter().map(map).collect()
}

pub async fn count(db: &Db, tenant: &str, conditions: &[Condition]) -> Result<u64, DbError> {
    let (clause, values) = where_clause(tenant, conditions);
    db.query(format!("SELECT COUNT(*){clause}"), values)
        .await?
        .first()
        .map_or(Ok(0), |row| row.get(0))
}

/// Ids by age, from `offset` on.
pub async fn ids(
    db: &Db,
    tenant: &str,
    conditions: &[Condition],
    limit: u64,
    offset: u64,
) -> Result<Vec<String>, DbError> {
    let (clause, mut values) = where_clause(tenant, conditions);
    let (at, after) = (values.len() + 1, values.len() + 2);
    values.extend(params![limit, offset]);
    let sql = format!("SELECT id{clause} ORDER BY created_ms, id LIMIT ${at} OFFSET ${after}");
    db.query(sql, values)
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// All ids; the order is of no interest.
pub async fn all_ids(
    db: &Db,
    tenant: &str,
    conditions: &[Condition],
) -> Result<Vec<String>, DbError> {
    let (clause, values) = where_clause(tenant, conditions);
    db.query(format!("SELECT id{clause}"), values)
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// The groups of those among these devices that are in one.
pub async fn groups(
    db: &Db,
    tenant: &str,
    ids: &[String],
) -> Result<HashMap<String, String>, DbError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let (clause, values) = where_clause(tenant, &[Condition::IdIn(ids.to_vec())]);
    let sql = format!("SELECT id, group_name{clause} AND group_name <> ''");
    db.query(sql, values)
        .await?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// The next devices of a pass by age, after the device with this creation time and id.
pub async fn candidates(
    db: &Db,
    tenant: &str,
    conditions: &[Condition],
    scopes: &[Scope],
    after: (i64, &str),
    limit: u64,
) -> Result<Vec<Candidate>, DbError> {
    let (clause, mut values) = where_clause(tenant, conditions);
    let mut columns = String::from("id, created_ms, updated_ms, check_in_ms, status, group_name");
    for scope in scopes {
        columns.push_str(", ");
        columns.push_str(scope.as_str());
    }
    let first = values.len() + 1;
    values.extend(params![after.0, after.1, limit]);
    let sql = format!(
        "SELECT {columns}{clause} AND (created_ms, id) > (${first}, ${}) ORDER BY created_ms, id LIMIT ${}",
        first + 1,
        first + 2
    );
    db.query(sql, values)
        .await?
        .iter()
        .map(|row| {
            Ok(Candidate {
                id: row.get(0)?,
                created_ms: row.get(1)?,
                updated_ms: row.get(2)?,
                check_in_ms: row.get(3)?,
                status: row.get(4)?,
                group: row.get(5)?,
                documents: (6..6 + scopes.len())
                    .map(|column| row.get(column))
                    .collect::<Result<_, _>>()?,
            })
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    /// Listings by status and group must stay searches of an index at a million devices.
    #[test]
    fn listings_search_an_index_and_do_not_sort() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&dir.path().join("test.db")).unwrap();
        db.migrate("inventory", super::super::MIGRATIONS).unwrap();
        let one = |text: &str| vec![text.to_owned()];
        for (conditions, index) in [
            (vec![], "inventory_devices_age"),
            (
                vec![Condition::StatusIn(one("accepted"))],
                "inventory_devices_status",
            ),
            (
                vec![Condition::GroupIn(one("g"))],
                "inventory_devices_group",
            ),
        ] {
            let (clause, _) = where_clause("", &conditions);
            for sql in [
                format!("SELECT {COLUMNS}{clause} ORDER BY created_ms, id LIMIT 20 OFFSET 0"),
                format!(
                    "SELECT id{clause} AND (created_ms, id) > (5, 'x') ORDER BY created_ms, id LIMIT 20"
                ),
            ] {
                let plan = db.explain(&sql).unwrap().join("; ");
                assert!(
                    plan.contains(&format!("USING INDEX {index}"))
                        || plan.contains(&format!("USING COVERING INDEX {index}")),
                    "{sql}: {plan}"
                );
                assert!(
                    !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"),
                    "{sql}: {plan}"
                );
            }
        }
        let (clause, _) = where_clause(
            "",
            &[
                Condition::GroupIn(one("g")),
                Condition::StatusIn(one("accepted")),
            ],
        );
        let plan = db
            .explain(&format!("SELECT id{clause}"))
            .unwrap()
            .join("; ");
        assert!(
            plan.contains("COVERING INDEX") || plan.contains("inventory_devices_status"),
            "{plan}"
        );
        for sql in [
            super::super::group::NAMES,
            super::super::group::NAMES_WITH_STATUS,
        ] {
            let plan = db.explain(sql).unwrap().join("; ");
            assert!(!plan.contains("SCAN inventory_devices"), "{plan}");
        }
        let plan = db.explain(super::super::device::BY_ID).unwrap().join("; ");
        assert!(plan.contains("SEARCH") && !plan.contains("SCAN"), "{plan}");
    }
}
