use ambidex_db::{Statement, params, statement};

const PUT: &str =
    "INSERT INTO useradm_tenants (tenant_id) VALUES ($1) ON CONFLICT (tenant_id) DO NOTHING";

pub(crate) fn put(tenant: &str) -> Statement {
    statement(PUT, params![tenant])
}
