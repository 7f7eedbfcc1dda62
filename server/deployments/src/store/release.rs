//! Notes and tags of releases.

use ambidex_access::TenantId;
use ambidex_db::{Db, Row, Statement, Tx, params, statement};

use super::{json, to_json};
use crate::domain::release::Notes;
use crate::error::Error;

pub const FIND: &str =
    "SELECT name, notes, tags, modified_ms FROM release_notes WHERE tenant_id = $1 AND name = $2";

const LIST: &str =
    "SELECT name, notes, tags, modified_ms FROM release_notes WHERE tenant_id = $1 ORDER BY name";

const SAVE: &str = "INSERT INTO release_notes (tenant_id, name, notes, tags, modified_ms) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, name) DO UPDATE SET \
     notes = excluded.notes, tags = excluded.tags, modified_ms = excluded.modified_ms";

const FORGET: &str = "DELETE FROM release_notes WHERE tenant_id = $1 AND name = $2 \
     AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.tenant_id = $1 AND a.name = $2)";

fn from_row(row: &Row) -> Result<Notes, Error> {
    Ok(Notes {
        name: row.get(0)?,
        notes: row.get(1)?,
        tags: json("release_notes.tags", row.text(2)?)?,
        modified_ms: row.get(3)?,
    })
}

/// What is noted about a release; `None` when nothing is.
pub async fn find(db: &Db, tenant: &TenantId, name: &str) -> Result<Option<Notes>, Error> {
    db.point(FIND, &params![tenant.as_str(), name])
        .await?
        .as_ref()
        .map(from_row)
        .transpose()
}

/// What is noted about all releases, by name.
pub async fn list(db: &Db, tenant: &TenantId) -> Result<Vec<Notes>, Error> {
    db.query(LIST, params![tenant.as_str()])
        .await?
        .iter()
        .map(from_row)
        .collect()
}

/// As [`list`], inside a transaction.
pub fn list_within(tx: &mut Tx<'_>, tenant: &TenantId) -> Result<Vec<Notes>, Error> {
    tx.query(LIST, &params![tenant.as_str()])?
        .iter()
        .map(from_row)
        .collect()
}

/// Writes what is noted about a release, inside a transaction.
pub fn save_within(tx: &mut Tx<'_>, tenant: &TenantId, notes: &Notes) -> Result<(), Error> {
    let params = params![
        tenant.as_str(),
        &notes.name,
        &notes.notes,
        to_json(&notes.tags)?,
        notes.modified_ms
    ];
    tx.execute(SAVE, &params)?;
    Ok(())
}

/// Forgets what is noted about a release whose last artifact is gone.
pub fn forget(tenant: &TenantId, name: &str) -> Statement {
    statement(FORGET, params![tenant.as_str(), name])
}
