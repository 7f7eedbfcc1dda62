use ambidex_db::{Db, DbError, Statement, params, statement};

const INSERT: &str = "INSERT INTO deviceconnect_instances (instance_id, alive_ms) VALUES ($1, $2)
    ON CONFLICT (instance_id) DO UPDATE SET alive_ms = excluded.alive_ms";

const RENEW: &str = "UPDATE deviceconnect_instances SET alive_ms = $2 WHERE instance_id = $1";

const STALE: &str = "SELECT instance_id, alive_ms FROM deviceconnect_instances WHERE alive_ms < $1";

const OTHERS: &str =
    "SELECT instance_id, alive_ms FROM deviceconnect_instances WHERE instance_id <> $1";

/// Only if it has not come back meanwhile.
const DELETE: &str = "DELETE FROM deviceconnect_instances WHERE instance_id = $1 AND alive_ms = $2";

pub(crate) fn insert(instance: &str, now_ms: i64) -> Statement {
    statement(INSERT, params![instance, now_ms])
}

pub(crate) fn renew(instance: &str, now_ms: i64) -> Statement {
    statement(RENEW, params![instance, now_ms])
}

pub(crate) fn delete(instance: &str, alive_ms: i64) -> Statement {
    statement(DELETE, params![instance, alive_ms])
}

/// Instances that gave no sign of life since `before_ms`, with their last one.
pub(crate) async fn stale(db: &Db, before_ms: i64) -> Result<Vec<(String, i64)>, DbError> {
    let rows = db.query(STALE, params![before_ms]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// All but `instance`.
pub(crate) async fn others(db: &Db, instance: &str) -> Result<Vec<(String, i64)>, DbError> {
    let rows = db.query(OTHERS, params![instance]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}
