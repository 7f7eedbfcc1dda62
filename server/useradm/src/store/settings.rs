use ambidex_db::{Db, DbError, Statement, params, statement};

const GET: &str = "SELECT value FROM useradm_settings WHERE tenant_id = $1";

const PUT: &str = "INSERT INTO useradm_settings (tenant_id, value) VALUES ($1, $2)
    ON CONFLICT (tenant_id) DO UPDATE SET value = EXCLUDED.value";

pub(crate) async fn get(db: &Db, tenant: &str) -> Result<Option<String>, DbError> {
    let row = db.point(GET, &params![tenant]).await?;
    row.map(|row| row.get(0)).transpose()
}

pub(crate) fn put(tenant: &str, value: &str) -> Statement {
    statement(PUT, params![tenant, value])
}

#[cfg(test)]
pub(crate) const POINTS: &[&str] = &[GET];
