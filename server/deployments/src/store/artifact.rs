//! Artifacts.

use ambidex_access::TenantId;
use ambidex_db::{Db, DbError, Row, Statement, params, statement};

use super::{json, to_json};
use crate::domain::artifact::{Artifact, Candidate};
use crate::error::Error;

/// A file in the artifact store that an artifact owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Names the file in the artifact store.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
}

/// The files of all artifacts of all tenants (backups).
///
/// # Errors
/// When the database refuses.
pub async fn stored_files(db: &Db) -> Result<Vec<StoredFile>, DbError> {
    const STORED: &str = "SELECT DISTINCT blob_key, size_bytes FROM artifacts ORDER BY blob_key";
    let rows = db.query(STORED, params![]).await?;
    rows.iter()
        .map(|row| {
            Ok(StoredFile {
                key: row.get(0)?,
                size_bytes: row.get(1)?,
            })
        })
        .collect()
}

macro_rules! columns {
    () => {
        "id, name, description, blob_key, size_bytes, modified_ms, device_types, depends, document"
    };
}

pub const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM artifacts WHERE tenant_id = $1 AND id = $2"
);

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM artifacts WHERE tenant_id = $1 ORDER BY name, id"
);

const LIST_OF_NAME: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM artifacts WHERE tenant_id = $1 AND name = $2 ORDER BY id"
);

pub const CANDIDATES: &str = "SELECT id, blob_key, size_bytes, device_types, depends \
     FROM artifacts WHERE tenant_id = $1 AND name = $2 ORDER BY id";

const INSERT: &str = concat!(
    "INSERT INTO artifacts (tenant_id, ",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
);

const INSERT_COMBINATION: &str = "INSERT INTO artifact_combinations (tenant_id, name, combination, artifact_id) \
     VALUES ($1, $2, $3, $4)";

const DELETE_COMBINATIONS: &str =
    "DELETE FROM artifact_combinations WHERE tenant_id = $1 AND artifact_id = $2";

/// Unfinished deployments of a name take up later uploads of that name.
const JOIN_DEPLOYMENTS: &str = "INSERT INTO deployment_artifacts (tenant_id, deployment_number, artifact_id) \
     SELECT d.tenant_id, d.number, $3 FROM deployments d \
     WHERE d.tenant_id = $1 AND d.artifact_name = $2 AND d.active = 1";

const DESCRIBE: &str = "UPDATE artifacts SET description = $3, modified_ms = $4 \
     WHERE tenant_id = $1 AND id = $2 AND NOT EXISTS (\
     SELECT 1 FROM deployment_artifacts l WHERE l.tenant_id = $1 AND l.artifact_id = $2)";

const DELETE: &str = "DELETE FROM artifacts WHERE tenant_id = $1 AND id = $2 AND NOT EXISTS (\
     SELECT 1 FROM deployment_artifacts l JOIN deployments d \
     ON d.tenant_id = l.tenant_id AND d.number = l.deployment_number \
     WHERE l.tenant_id = $1 AND l.artifact_id = $2 AND d.active = 1)";

fn from_row(row: &Row) -> Result<Artifact, Error> {
    Ok(Artifact {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        blob_key: row.get(3)?,
        size_bytes: row.get(4)?,
        modified_ms: row.get(5)?,
        device_types: json("artifacts.device_types", row.text(6)?)?,
        depends: json("artifacts.depends", row.text(7)?)?,
        document: json("artifacts.document", row.text(8)?)?,
    })
}

/// One artifact.
pub async fn find(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<Artifact>, Error> {
    db.point(FIND, &params![tenant.as_str(), id])
        .await?
        .as_ref()
        .map(from_row)
        .transpose()
}

/// All artifacts of a tenant by name, or those of one name.
pub async fn list(db: &Db, tenant: &TenantId, name: Option<&str>) -> Result<Vec<Artifact>, Error> {
    let rows = match name {
        Some(name) => {
            db.query(LIST_OF_NAME, params![tenant.as_str(), name])
                .await?
        }
        None => db.query(LIST, params![tenant.as_str()]).await?,
    };
    rows.iter().map(from_row).collect()
}

/// The artifacts of a name, as far as the choice for a device needs them.
pub async fn candidates(db: &Db, tenant: &TenantId, name: &str) -> Result<Vec<Candidate>, Error> {
    db.points(CANDIDATES, &params![tenant.as_str(), name])
        .await?
        .iter()
        .map(|row| {
            Ok(Candidate {
                id: row.get(0)?,
                blob_key: row.get(1)?,
                size_bytes: row.get(2)?,
                device_types: json("artifacts.device_types", row.text(3)?)?,
                depends: json("artifacts.depends", row.text(4)?)?,
            })
        })
        .collect()
}

/// Everything that makes an artifact visible. A combination that exists breaks the batch with a
/// unique violation of `artifact_combinations`, an id that exists with one of `artifacts`.
pub fn insert(
    tenant: &TenantId,
    artifact: &Artifact,
    combinations: &[String],
) -> Result<Vec<Statement>, Error> {
    let mut batch = vec![
        statement(
            INSERT,
            params![
                tenant.as_str(),
                &artifact.id,
                &artifact.name,
                &artifact.description,
                &artifact.blob_key,
                artifact.size_bytes,
                artifact.modified_ms,
                to_json(&artifact.device_types)?,
                to_json(&artifact.depends)?,
                to_json(&artifact.document)?,
            ],
        ),
        statement(
            JOIN_DEPLOYMENTS,
            params![tenant.as_str(), &artifact.name, &artifact.id],
        ),
    ];
    batch.extend(combinations.iter().map(|combination| {
        statement(
            INSERT_COMBINATION,
            params![tenant.as_str(), &artifact.name, combination, &artifact.id],
        )
    }));
    Ok(batch)
}

/// Writes a description, unless a deployment has ever used the artifact.
pub fn describe(tenant: &TenantId, id: &str, description: &str, now_ms: i64) -> Statement {
    statement(DESCRIBE, params![tenant.as_str(), id, description, now_ms]).expect_one()
}

/// Removes an artifact, unless an unfinished deployment uses it.
pub fn delete(tenant: &TenantId, id: &str) -> [Statement; 2] {
    [
        statement(DELETE, params![tenant.as_str(), id]).expect_one(),
        statement(DELETE_COMBINATIONS, params![tenant.as_str(), id]),
    ]
}
