-- Devices, one row an identity. `revision` grows with each change and guards concurrent writers.
CREATE TABLE devauth_devices (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    revision        BIGINT NOT NULL,
    created_ms      BIGINT NOT NULL,
    updated_ms      BIGINT NOT NULL,
    check_in_ms     BIGINT NOT NULL,
    identity_hash   TEXT   NOT NULL,
    identity_data   TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX devauth_devices_identity ON devauth_devices (tenant_id, identity_hash);
CREATE INDEX devauth_devices_age ON devauth_devices (tenant_id, created_ms, id);
CREATE INDEX devauth_devices_status ON devauth_devices (tenant_id, status, created_ms, id);

-- Pairs of identity and public key. The identity is the device's.
CREATE TABLE devauth_auth_sets (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    device_id       TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    key_hash        TEXT   NOT NULL,
    public_key      TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX devauth_auth_sets_key ON devauth_auth_sets (tenant_id, device_id, key_hash);

-- One row an accepted auth set that holds at least one token: its presence is what makes the tokens valid.
CREATE TABLE devauth_tokens (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    device_id       TEXT   NOT NULL,
    expires_ms      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX devauth_tokens_device ON devauth_tokens (tenant_id, device_id);

CREATE TABLE devauth_limits (
    tenant_id       TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    value           BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

-- Devices by status, kept in the batch of each change: counting a million rows per admission is no option.
CREATE TABLE devauth_tallies (
    tenant_id       TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    devices         BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, status)
);

CREATE TABLE devauth_tenants (
    tenant_id       TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id)
);

-- Changes that the neighbours have not confirmed yet. Written with the change, deleted after the hand-over.
CREATE TABLE devauth_handovers (
    tenant_id       TEXT   NOT NULL,
    device_id       TEXT   NOT NULL,
    revision        BIGINT NOT NULL,
    removed         BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, device_id)
);
