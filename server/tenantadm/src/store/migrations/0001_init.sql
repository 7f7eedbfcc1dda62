CREATE TABLE tenantadm_tenants (
    id                  TEXT   NOT NULL PRIMARY KEY,
    name                TEXT   NOT NULL,
    status              TEXT   NOT NULL,
    plan                TEXT   NOT NULL,
    trial               BIGINT NOT NULL,
    trial_expiration_ms BIGINT,
    addons              TEXT   NOT NULL,
    api_limits          TEXT   NOT NULL,
    token               TEXT   NOT NULL,
    created_ms          BIGINT NOT NULL
);

CREATE TABLE tenantadm_users (
    tenant_id TEXT NOT NULL,
    id        TEXT NOT NULL,
    name      TEXT NOT NULL,
    login     TEXT,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX tenantadm_users_name ON tenantadm_users (name);
CREATE UNIQUE INDEX tenantadm_users_id ON tenantadm_users (id);
