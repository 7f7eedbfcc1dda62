//! Rows of saved filters.

use ambidex_db::{Db, DbError, Row, Statement, params, statement};

/// A saved filter; its terms as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRow {
    pub id: String,
    pub name: String,
    pub terms: String,
}

const BY_ID: &str =
    "SELECT id, name, terms FROM inventory_filters WHERE tenant_id = $1 AND id = $2";
const PAGE: &str = "SELECT id, name, terms FROM inventory_filters WHERE tenant_id = $1 ORDER BY name LIMIT $2 OFFSET $3";
const COUNT: &str = "SELECT COUNT(*) FROM inventory_filters WHERE tenant_id = $1";
const INSERT: &str = "INSERT INTO inventory_filters (tenant_id, id, name, created_ms, terms) VALUES ($1, $2, $3, $4, $5)";
const DELETE: &str = "DELETE FROM inventory_filters WHERE tenant_id = $1 AND id = $2";

fn map(row: &Row) -> Result<FilterRow, DbError> {
    Ok(FilterRow {
        id: row.get(0)?,
        name: row.get(1)?,
        terms: row.get(2)?,
    })
}

pub async fn by_id(db: &Db, tenant: &str, id: &str) -> Result<Option<FilterRow>, DbError> {
    db.point(BY_ID, &params![tenant, id])
        .await?
        .as_ref()
        .map(map)
        .transpose()
}

/// Filters by name.
pub async fn page(
    db: &Db,
    tenant: &str,
    limit: u64,
    offset: u64,
) -> Result<Vec<FilterRow>, DbError> {
    db.query(PAGE, params![tenant, limit, offset])
        .await?
        .iter()
        .map(map)
        .collect()
}

pub async fn count(db: &Db, tenant: &str) -> Result<u64, DbError> {
    db.query(COUNT, params![tenant])
        .await?
        .first()
        .map_or(Ok(0), |row| row.get(0))
}

pub fn insert(tenant: &str, filter: &FilterRow, now_ms: i64) -> Statement {
    statement(
        INSERT,
        params![tenant, &filter.id, &filter.name, now_ms, &filter.terms],
    )
}

pub fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id])
}
