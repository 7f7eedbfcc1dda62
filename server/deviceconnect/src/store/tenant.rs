use ambidex_db::{Statement, params, statement};

const INSERT: &str = "INSERT INTO deviceconnect_tenants (tenant_id) VALUES ($1)
    ON CONFLICT (tenant_id) DO NOTHING";

const DELETE: &[&str] = &[
    "DELETE FROM deviceconnect_recordings WHERE tenant_id = $1",
    "DELETE FROM deviceconnect_sessions WHERE tenant_id = $1",
    "DELETE FROM deviceconnect_devices WHERE tenant_id = $1",
    "DELETE FROM deviceconnect_tenants WHERE tenant_id = $1",
];

pub(crate) fn insert(tenant: &str) -> Statement {
    statement(INSERT, params![tenant])
}

pub(crate) fn delete(tenant: &str) -> Vec<Statement> {
    DELETE
        .iter()
        .map(|sql| statement(*sql, params![tenant]))
        .collect()
}
