use ambidex_db::{Db, DbError, Row, Statement, params, statement};
use ambidex_wire::management::workflows::TaskResult;

use crate::domain::template::Input;

// A job that was started within another service's batch gets its row when it is first recorded.
const PUT: &str = "INSERT INTO workflows_jobs \
    (tenant_id, id, workflow, version, ephemeral, status, input, results, attempts, created_ms, finished_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
    ON CONFLICT (tenant_id, id) DO UPDATE SET status = excluded.status, results = excluded.results, \
    attempts = excluded.attempts, finished_ms = excluded.finished_ms";
const BY_ID: &str = "SELECT tenant_id, id, workflow, version, ephemeral, status, input, results, attempts, created_ms \
    FROM workflows_jobs WHERE id = $1";
const OF_TENANT: &str = "SELECT tenant_id, id, workflow, version, ephemeral, status, input, results, attempts, created_ms \
    FROM workflows_jobs WHERE tenant_id = $1 AND id = $2";
const DELETE: &str = "DELETE FROM workflows_jobs WHERE tenant_id = $1 AND id = $2";
const PRUNE: &str = "DELETE FROM workflows_jobs WHERE status = $1 AND finished_ms < $2";
const COUNTS: &str = "SELECT status, COUNT(*) FROM workflows_jobs GROUP BY status";

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Processing,
    Done,
    Failed,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Processing => "processing",
            Status::Done => "done",
            Status::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Result<Status, DbError> {
        Ok(match text {
            "pending" => Status::Pending,
            "processing" => Status::Processing,
            "done" => Status::Done,
            "failed" => Status::Failed,
            other => return Err(DbError::Other(format!("job in unknown state {other}"))),
        })
    }

    pub(crate) fn ended(self) -> bool {
        matches!(self, Status::Done | Status::Failed)
    }
}

/// A job as it is recorded.
#[derive(Debug, Clone)]
pub(crate) struct JobRow {
    pub(crate) tenant: String,
    pub(crate) id: String,
    pub(crate) workflow: String,
    pub(crate) version: i64,
    pub(crate) ephemeral: bool,
    pub(crate) status: Status,
    pub(crate) input: Vec<Input>,
    pub(crate) results: Vec<TaskResult>,
    pub(crate) attempts: u32,
    pub(crate) created_ms: i64,
}

fn job(row: &Row) -> Result<JobRow, DbError> {
    let unreadable =
        |error: serde_json::Error| DbError::Other(format!("a stored job cannot be read: {error}"));
    Ok(JobRow {
        tenant: row.get(0)?,
        id: row.get(1)?,
        workflow: row.get(2)?,
        version: row.get(3)?,
        ephemeral: row.get(4)?,
        status: Status::parse(row.text(5)?)?,
        input: serde_json::from_str(row.text(6)?).map_err(unreadable)?,
        results: serde_json::from_str(row.text(7)?).map_err(unreadable)?,
        attempts: row.get(8)?,
        created_ms: row.get(9)?,
    })
}

fn json(value: &impl serde::Serialize) -> String {
    // Lists of plain structures with text keys always serialise.
    serde_json::to_string(value).unwrap_or_default()
}

/// Records a job. `finished_ms` is 0 as long as it has not ended.
pub(crate) fn put(job: &JobRow, finished_ms: i64) -> Statement {
    statement(
        PUT,
        params![
            &job.tenant,
            &job.id,
            &job.workflow,
            job.version,
            job.ephemeral,
            job.status.as_str(),
            json(&job.input),
            json(&job.results),
            job.attempts,
            job.created_ms,
            finished_ms
        ],
    )
}

pub(crate) async fn by_id(db: &Db, id: &str) -> Result<Option<JobRow>, DbError> {
    let row = db.point(BY_ID, &params![id]).await?;
    row.as_ref().map(job).transpose()
}

pub(crate) async fn of_tenant(db: &Db, tenant: &str, id: &str) -> Result<Option<JobRow>, DbError> {
    let row = db.point(OF_TENANT, &params![tenant, id]).await?;
    row.as_ref().map(job).transpose()
}

pub(crate) fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id])
}

pub(crate) fn prune(status: Status, before_ms: i64) -> Statement {
    statement(PRUNE, params![status.as_str(), before_ms])
}

/// Status and number of recorded jobs.
pub(crate) async fn counts(db: &Db) -> Result<Vec<(String, u64)>, DbError> {
    let rows = db.query(COUNTS, Vec::new()).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[BY_ID, OF_TENANT, PRUNE];
