//! Statements and row mapping; nothing else.

use ambidex_db::{Db, DbError, Migration, Row, Statement, params, statement};

use crate::Job;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: include_str!("migrations/0001_init.sql"),
}];

const ENQUEUE: &str = "INSERT INTO jobs_jobs \
    (tenant_id, id, kind, state, payload, unique_key, generation, due_ms, lease, attempts, created_ms) \
    VALUES ($1, $2, $3, 'ready', $4, $5, 1, $6, '', 0, $7)";
// A job that runs keeps its lease and is done once more afterwards, because the generation has moved on.
const ENQUEUE_UNIQUE: &str = "INSERT INTO jobs_jobs \
    (tenant_id, id, kind, state, payload, unique_key, generation, due_ms, lease, attempts, created_ms) \
    VALUES ($1, $2, $3, 'ready', $4, $5, 1, $6, '', 0, $7) \
    ON CONFLICT (tenant_id, kind, unique_key) DO UPDATE SET \
    payload = excluded.payload, generation = jobs_jobs.generation + 1, \
    attempts = CASE WHEN jobs_jobs.lease = '' THEN 0 ELSE jobs_jobs.attempts END, \
    due_ms = CASE WHEN jobs_jobs.lease = '' AND excluded.due_ms < jobs_jobs.due_ms \
        THEN excluded.due_ms ELSE jobs_jobs.due_ms END";
const NEXT: &str = "SELECT tenant_id, id, payload, generation, due_ms, lease, attempts, created_ms FROM jobs_jobs \
    WHERE kind = $1 AND state = 'ready' ORDER BY due_ms LIMIT $2";
const BY_ID: &str = "SELECT tenant_id, id, payload, generation, due_ms, lease, attempts, created_ms, kind, state \
    FROM jobs_jobs WHERE tenant_id = $1 AND id = $2";
const CLAIM: &str = "UPDATE jobs_jobs SET lease = $3, due_ms = $4, attempts = attempts + 1 \
    WHERE tenant_id = $1 AND id = $2 AND state = 'ready' AND lease = $5 AND due_ms = $6 AND generation = $7";
const RENEW: &str =
    "UPDATE jobs_jobs SET due_ms = $4 WHERE tenant_id = $1 AND id = $2 AND lease = $3";
const DONE: &str =
    "DELETE FROM jobs_jobs WHERE tenant_id = $1 AND id = $2 AND lease = $3 AND generation = $4";
const AGAIN: &str = "UPDATE jobs_jobs SET lease = '', attempts = 0, due_ms = $4 \
    WHERE tenant_id = $1 AND id = $2 AND lease = $3";
const RETRY: &str = "UPDATE jobs_jobs SET lease = '', due_ms = $4, last_error = $5 \
    WHERE tenant_id = $1 AND id = $2 AND lease = $3";
// The key is given up, so that the same work can be asked for anew.
const FAIL: &str = "UPDATE jobs_jobs SET state = 'failed', lease = '', unique_key = NULL, due_ms = $4, last_error = $5 \
    WHERE tenant_id = $1 AND id = $2 AND lease = $3";
const TAKE_OVER: &str =
    "UPDATE jobs_jobs SET lease = '', due_ms = $1 WHERE state = 'ready' AND lease <> ''";
const PRUNE: &str = "DELETE FROM jobs_jobs WHERE kind = $1 AND state = 'failed' AND due_ms < $2";
const FORGET_TENANT: &str = "DELETE FROM jobs_jobs WHERE tenant_id = $1";
const FAILED: &str = "SELECT tenant_id, id, payload, due_ms, attempts, created_ms, last_error FROM jobs_jobs \
    WHERE kind = $1 AND state = 'failed' ORDER BY due_ms DESC, id LIMIT $2";
const REVIVE: &str = "UPDATE jobs_jobs SET state = 'ready', due_ms = $3, attempts = 0 \
    WHERE tenant_id = $1 AND id = $2 AND state = 'failed'";
const COUNTS: &str = "SELECT kind, state, COUNT(*) FROM jobs_jobs GROUP BY kind, state";

/// A job as it waits.
pub(crate) struct Waiting {
    pub(crate) tenant: String,
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) generation: i64,
    pub(crate) due_ms: i64,
    pub(crate) lease: String,
    pub(crate) attempts: u32,
    pub(crate) created_ms: i64,
}

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedJob {
    /// Whose it is.
    pub tenant: String,
    /// Names it within the tenant.
    pub id: String,
    /// What it was asked to do, in JSON.
    pub payload: String,
    /// When it was given up, in milliseconds since 1970.
    pub failed_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was asked for, in milliseconds since 1970.
    pub created_ms: i64,
    /// What the last attempt met.
    pub cause: String,
}

fn waiting(row: &Row) -> Result<Waiting, DbError> {
    Ok(Waiting {
        tenant: row.get(0)?,
        id: row.get(1)?,
        payload: row.get(2)?,
        generation: row.get(3)?,
        due_ms: row.get(4)?,
        lease: row.get(5)?,
        attempts: row.get(6)?,
        created_ms: row.get(7)?,
    })
}

/// What a new row holds.
pub(crate) struct New<'a> {
    pub(crate) kind: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) unique_key: Option<&'a str>,
    pub(crate) due_ms: i64,
    pub(crate) now_ms: i64,
}

pub(crate) fn enqueue(new: New<'_>) -> Statement {
    let sql = if new.unique_key.is_some() {
        ENQUEUE_UNIQUE
    } else {
        ENQUEUE
    };
    statement(
        sql,
        params![
            new.tenant,
            new.id,
            new.kind,
            new.payload,
            new.unique_key,
            new.due_ms,
            new.now_ms
        ],
    )
}

/// The first jobs of a kind in the order in which they are due, also those that are not due yet.
pub(crate) async fn next(db: &Db, kind: &str, limit: usize) -> Result<Vec<Waiting>, DbError> {
    let rows = db.points(NEXT, &params![kind, limit]).await?;
    rows.iter().map(waiting).collect()
}

/// A job with its kind, as long as it is not done and not given up.
pub(crate) async fn by_id(
    db: &Db,
    tenant: &str,
    id: &str,
) -> Result<Option<(String, Waiting)>, DbError> {
    let Some(row) = db.point(BY_ID, &params![tenant, id]).await? else {
        return Ok(None);
    };
    if row.text(9)? != "ready" {
        return Ok(None);
    }
    Ok(Some((row.get(8)?, waiting(&row)?)))
}

/// Touches one row if nobody else was faster.
pub(crate) fn claim(seen: &Waiting, lease: &str, until_ms: i64) -> Statement {
    statement(
        CLAIM,
        params![
            &seen.tenant,
            &seen.id,
            lease,
            until_ms,
            &seen.lease,
            seen.due_ms,
            seen.generation
        ],
    )
}

pub(crate) fn renew(job: &Job, until_ms: i64) -> Statement {
    statement(RENEW, params![&job.tenant, &job.id, &job.lease, until_ms])
}

pub(crate) fn done(job: &Job) -> Statement {
    statement(
        DONE,
        params![&job.tenant, &job.id, &job.lease, job.generation],
    )
}

pub(crate) fn again(job: &Job, due_ms: i64) -> Statement {
    statement(AGAIN, params![&job.tenant, &job.id, &job.lease, due_ms])
}

pub(crate) fn retry(job: &Job, due_ms: i64, cause: &str) -> Statement {
    statement(
        RETRY,
        params![&job.tenant, &job.id, &job.lease, due_ms, cause],
    )
}

pub(crate) fn fail(job: &Job, now_ms: i64, cause: &str) -> Statement {
    statement(
        FAIL,
        params![&job.tenant, &job.id, &job.lease, now_ms, cause],
    )
}

pub(crate) fn take_over(now_ms: i64) -> Statement {
    statement(TAKE_OVER, params![now_ms])
}

pub(crate) fn prune(kind: &str, before_ms: i64) -> Statement {
    statement(PRUNE, params![kind, before_ms])
}

pub(crate) fn forget_tenant(tenant: &str) -> Statement {
    statement(FORGET_TENANT, params![tenant])
}

pub(crate) fn revive(tenant: &str, id: &str, now_ms: i64) -> Statement {
    statement(REVIVE, params![tenant, id, now_ms])
}

pub(crate) async fn failed(db: &Db, kind: &str, limit: u32) -> Result<Vec<FailedJob>, DbError> {
    let rows = db.query(FAILED, params![kind, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(FailedJob {
                tenant: row.get(0)?,
                id: row.get(1)?,
                payload: row.get(2)?,
                failed_ms: row.get(3)?,
                attempts: row.get(4)?,
                created_ms: row.get(5)?,
                cause: row.get::<Option<String>>(6)?.unwrap_or_default(),
            })
        })
        .collect()
}

/// Kind, state and number of rows.
pub(crate) async fn counts(db: &Db) -> Result<Vec<(String, String, u64)>, DbError> {
    let rows = db.query(COUNTS, Vec::new()).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn statements_search_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&dir.path().join("db")).unwrap();
        db.migrate("jobs", MIGRATIONS).unwrap();
        for sql in [NEXT, BY_ID, CLAIM, RENEW, DONE, AGAIN, RETRY, FAIL, PRUNE] {
            let plan = db.explain(sql).unwrap();
            assert!(
                plan.iter()
                    .all(|step| !step.contains("SCAN") && !step.contains("TEMP B-TREE")),
                "{sql}: {plan:?}"
            );
        }
        let plan = db.explain(COUNTS).unwrap();
        assert!(
            plan.iter().any(|step| step.contains("COVERING")),
            "counting reads the index only: {plan:?}"
        );
    }
}
