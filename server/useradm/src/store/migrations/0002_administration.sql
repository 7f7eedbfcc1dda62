ALTER TABLE useradm_users ADD COLUMN verified BIGINT NOT NULL DEFAULT 0;
-- disabled, unverified or enabled
ALTER TABLE useradm_users ADD COLUMN tfa_status TEXT NOT NULL DEFAULT 'disabled';
-- sealed
ALTER TABLE useradm_users ADD COLUMN tfa_secret TEXT;
-- the time step of the last code used to log in: no code works twice
ALTER TABLE useradm_users ADD COLUMN tfa_step BIGINT NOT NULL DEFAULT 0;

-- personal access tokens have a name
ALTER TABLE useradm_tokens ADD COLUMN name TEXT;
ALTER TABLE useradm_tokens ADD COLUMN last_used_ms BIGINT;
CREATE UNIQUE INDEX useradm_tokens_name ON useradm_tokens (tenant_id, user_id, name);

CREATE TABLE useradm_roles (
    tenant_id       TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    description     TEXT   NOT NULL,
    permissions     TEXT   NOT NULL,
    permission_sets TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE useradm_user_roles (
    tenant_id TEXT   NOT NULL,
    user_id   TEXT   NOT NULL,
    position  BIGINT NOT NULL,
    role      TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, user_id, position)
);
CREATE INDEX useradm_user_roles_role ON useradm_user_roles (tenant_id, role);
-- until now everybody could do everything
INSERT INTO useradm_user_roles (tenant_id, user_id, position, role)
    SELECT tenant_id, id, 0, 'RBAC_ROLE_PERMIT_ALL' FROM useradm_users;

-- what the links of mails carry, hashed
CREATE TABLE useradm_secrets (
    tenant_id  TEXT   NOT NULL,
    user_id    TEXT   NOT NULL,
    purpose    TEXT   NOT NULL,
    hash       TEXT   NOT NULL,
    email      TEXT   NOT NULL,
    expires_ms BIGINT NOT NULL,
    sent_ms    BIGINT,
    PRIMARY KEY (tenant_id, user_id, purpose)
);
CREATE UNIQUE INDEX useradm_secrets_hash ON useradm_secrets (hash);

CREATE TABLE useradm_user_settings (
    tenant_id TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    value     TEXT NOT NULL,
    etag      TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
ALTER TABLE useradm_settings ADD COLUMN etag TEXT NOT NULL DEFAULT '';
