//! Rows of tenants that have been announced to this service.

use ambidex_db::{Statement, params, statement};

const PUT: &str = "INSERT INTO inventory_tenants (tenant_id, created_ms) VALUES ($1, $2) ON CONFLICT (tenant_id) DO NOTHING";

pub fn put(tenant: &str, now_ms: i64) -> Statement {
    statement(PUT, params![tenant, now_ms])
}
