-- The end of a trial that was acted upon, so that an account activated afterwards stays active.
ALTER TABLE tenantadm_tenants ADD COLUMN ended_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tenantadm_tenants ADD COLUMN cancel_at_ms BIGINT;
ALTER TABLE tenantadm_tenants ADD COLUMN cancel_reason TEXT;
-- A plan that the tenant asks for and the operator has not decided on.
ALTER TABLE tenantadm_tenants ADD COLUMN requested_plan TEXT;
-- What neighbours must still be told of (bits, see the domain), and since when.
ALTER TABLE tenantadm_tenants ADD COLUMN pending BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tenantadm_tenants ADD COLUMN pending_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tenantadm_tenants ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
CREATE INDEX tenantadm_tenants_pending ON tenantadm_tenants (pending_ms) WHERE pending <> 0;

-- First users of tenants, until user administration has them.
CREATE TABLE tenantadm_first_users (
    tenant_id     TEXT NOT NULL PRIMARY KEY,
    user_id       TEXT NOT NULL,
    email         TEXT NOT NULL,
    password_hash TEXT,
    login         TEXT
);
