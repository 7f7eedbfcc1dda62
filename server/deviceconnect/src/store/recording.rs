use ambidex_db::{Db, DbError, Statement, params, statement};

const INSERT: &str = "INSERT INTO deviceconnect_recordings (tenant_id, session_id, part, data)
    VALUES ($1, $2, $3, $4)";

const PARTS: &str = "SELECT data FROM deviceconnect_recordings
    WHERE tenant_id = $1 AND session_id = $2 AND part >= $3 ORDER BY part LIMIT $4";

const DELETE: &str =
    "DELETE FROM deviceconnect_recordings WHERE tenant_id = $1 AND session_id = $2";

pub(crate) fn insert(tenant: &str, session: &str, part: i64, data: Vec<u8>) -> Statement {
    statement(INSERT, params![tenant, session, part, data])
}

/// At most `limit` parts from number `from` on.
pub(crate) async fn parts(
    db: &Db,
    tenant: &str,
    session: &str,
    from: i64,
    limit: i64,
) -> Result<Vec<Vec<u8>>, DbError> {
    let rows = db
        .query(PARTS, params![tenant, session, from, limit])
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}

pub(crate) fn delete(tenant: &str, session: &str) -> Statement {
    statement(DELETE, params![tenant, session])
}
