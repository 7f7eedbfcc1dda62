use ambidex_db::{Db, DbError, Statement, params, statement};
use ambidex_wire::management::workflows::Definition;

const INSERT: &str = "INSERT INTO workflows_definitions (name, version, definition, created_ms) \
    VALUES ($1, $2, $3, $4)";
const NEWEST: &str = "SELECT definition FROM workflows_definitions \
    WHERE name = $1 ORDER BY version DESC LIMIT 1";
const OF_VERSION: &str =
    "SELECT definition FROM workflows_definitions WHERE name = $1 AND version = $2";
const ALL: &str = "SELECT d.definition FROM workflows_definitions d WHERE NOT EXISTS \
    (SELECT 1 FROM workflows_definitions newer WHERE newer.name = d.name AND newer.version > d.version) \
    ORDER BY d.name";

fn definition(row: &ambidex_db::Row) -> Result<Definition, DbError> {
    serde_json::from_str(row.text(0)?)
        .map_err(|error| DbError::Other(format!("a stored workflow cannot be read: {error}")))
}

pub(crate) fn insert(new: &Definition, text: String, now_ms: i64) -> Statement {
    statement(INSERT, params![&new.name, new.version, text, now_ms])
}

pub(crate) async fn newest(db: &Db, name: &str) -> Result<Option<Definition>, DbError> {
    let row = db.point(NEWEST, &params![name]).await?;
    row.as_ref().map(definition).transpose()
}

pub(crate) async fn of_version(
    db: &Db,
    name: &str,
    version: i64,
) -> Result<Option<Definition>, DbError> {
    let row = db.point(OF_VERSION, &params![name, version]).await?;
    row.as_ref().map(definition).transpose()
}

/// The newest version of each workflow, by name.
pub(crate) async fn all(db: &Db) -> Result<Vec<Definition>, DbError> {
    let rows = db.query(ALL, Vec::new()).await?;
    rows.iter().map(definition).collect()
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[NEWEST, OF_VERSION];
