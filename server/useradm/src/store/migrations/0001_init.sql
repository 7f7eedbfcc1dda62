CREATE TABLE useradm_users (
    tenant_id     TEXT   NOT NULL,
    id            TEXT   NOT NULL,
    email         TEXT   NOT NULL,
    password_hash TEXT,
    login         TEXT,
    created_ms    BIGINT NOT NULL,
    updated_ms    BIGINT NOT NULL,
    login_ms      BIGINT,
    PRIMARY KEY (tenant_id, id)
);
-- An address is a login name: one over all tenants.
CREATE UNIQUE INDEX useradm_users_email ON useradm_users (email);

CREATE TABLE useradm_tokens (
    tenant_id  TEXT   NOT NULL,
    user_id    TEXT   NOT NULL,
    jti        TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    PRIMARY KEY (tenant_id, user_id, jti)
);

CREATE TABLE useradm_settings (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    value     TEXT NOT NULL
);

CREATE TABLE useradm_tenants (
    tenant_id TEXT NOT NULL PRIMARY KEY
);
