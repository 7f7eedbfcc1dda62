use ambidex_db::{Db, DbError, Row, Statement, params, statement};

/// A shell session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) session_id: String,
    pub(crate) device_id: String,
    pub(crate) user_id: String,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: Option<i64>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) output_bytes: i64,
}

const GET: &str =
    "SELECT session_id, device_id, user_id, started_ms, ended_ms, width, height, output_bytes
    FROM deviceconnect_sessions WHERE tenant_id = $1 AND session_id = $2";

const LIST: &str =
    "SELECT session_id, device_id, user_id, started_ms, ended_ms, width, height, output_bytes
    FROM deviceconnect_sessions
    WHERE tenant_id = $1 AND ($2 = '' OR device_id = $2) AND ($3 = '' OR user_id = $3)
    ORDER BY started_ms DESC, session_id LIMIT $4 OFFSET $5";

const COUNT: &str = "SELECT COUNT(*) FROM deviceconnect_sessions
    WHERE tenant_id = $1 AND ($2 = '' OR device_id = $2) AND ($3 = '' OR user_id = $3)";

/// Those that a dead instance left open.
const OPEN: &str = "SELECT tenant_id, session_id, device_id, user_id FROM deviceconnect_sessions
    WHERE instance_id = $1 AND ended_ms IS NULL LIMIT 500";

const INSERT: &str = "INSERT INTO deviceconnect_sessions
    (tenant_id, session_id, device_id, user_id, instance_id, started_ms, width, height, output_bytes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)";

const END: &str = "UPDATE deviceconnect_sessions SET ended_ms = $3
    WHERE tenant_id = $1 AND session_id = $2 AND ended_ms IS NULL";

const GROW: &str = "UPDATE deviceconnect_sessions SET output_bytes = output_bytes + $3
    WHERE tenant_id = $1 AND session_id = $2";

const EXPIRED: &str = "SELECT tenant_id, session_id FROM deviceconnect_sessions
    WHERE started_ms < $1 ORDER BY started_ms LIMIT 100";

const DELETE: &str = "DELETE FROM deviceconnect_sessions WHERE tenant_id = $1 AND session_id = $2";

fn session(row: &Row) -> Result<Session, DbError> {
    Ok(Session {
        session_id: row.get(0)?,
        device_id: row.get(1)?,
        user_id: row.get(2)?,
        started_ms: row.get(3)?,
        ended_ms: row.get(4)?,
        width: row.get(5)?,
        height: row.get(6)?,
        output_bytes: row.get(7)?,
    })
}

pub(crate) async fn get(db: &Db, tenant: &str, id: &str) -> Result<Option<Session>, DbError> {
    let row = db.point(GET, &params![tenant, id]).await?;
    row.as_ref().map(session).transpose()
}

/// `device` and `user` may be empty: all.
pub(crate) async fn list(
    db: &Db,
    tenant: &str,
    device: &str,
    user: &str,
    limit: u64,
    offset: u64,
) -> Result<Vec<Session>, DbError> {
    let params = params![tenant, device, user, limit, offset];
    db.query(LIST, params).await?.iter().map(session).collect()
}

pub(crate) async fn count(db: &Db, tenant: &str, device: &str, user: &str) -> Result<u64, DbError> {
    let rows = db.query(COUNT, params![tenant, device, user]).await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

/// Tenant, session, device and user of sessions that `instance` has not ended.
pub(crate) async fn open_of(
    db: &Db,
    instance: &str,
) -> Result<Vec<(String, String, String, String)>, DbError> {
    let rows = db.query(OPEN, params![instance]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .collect()
}

pub(crate) fn insert(tenant: &str, instance: &str, session: &Session) -> Statement {
    statement(
        INSERT,
        params![
            tenant,
            session.session_id.as_str(),
            session.device_id.as_str(),
            session.user_id.as_str(),
            instance,
            session.started_ms,
            session.width,
            session.height,
        ],
    )
}

pub(crate) fn end(tenant: &str, id: &str, now_ms: i64) -> Statement {
    statement(END, params![tenant, id, now_ms])
}

pub(crate) fn grow(tenant: &str, id: &str, bytes: u64) -> Statement {
    statement(GROW, params![tenant, id, bytes])
}

pub(crate) async fn expired(db: &Db, before_ms: i64) -> Result<Vec<(String, String)>, DbError> {
    let rows = db.query(EXPIRED, params![before_ms]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

pub(crate) fn delete(tenant: &str, id: &str) -> Statement {
    statement(DELETE, params![tenant, id])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[GET];
