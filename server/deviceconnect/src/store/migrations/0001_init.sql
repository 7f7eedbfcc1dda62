-- Instances of the server that hold connections. Of the installation, not of a tenant.
CREATE TABLE deviceconnect_instances (
    instance_id TEXT   NOT NULL PRIMARY KEY,
    alive_ms    BIGINT NOT NULL
);

CREATE TABLE deviceconnect_tenants (
    tenant_id TEXT NOT NULL PRIMARY KEY
);

-- version: number of connections ever made; 0: none yet.
CREATE TABLE deviceconnect_devices (
    tenant_id     TEXT   NOT NULL,
    device_id     TEXT   NOT NULL,
    connected     BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    connection_id TEXT   NOT NULL,
    instance_id   TEXT   NOT NULL,
    created_ms    BIGINT NOT NULL,
    updated_ms    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, device_id)
);
CREATE INDEX deviceconnect_devices_instance ON deviceconnect_devices (instance_id, connected);

CREATE TABLE deviceconnect_sessions (
    tenant_id    TEXT   NOT NULL,
    session_id   TEXT   NOT NULL,
    device_id    TEXT   NOT NULL,
    user_id      TEXT   NOT NULL,
    instance_id  TEXT   NOT NULL,
    started_ms   BIGINT NOT NULL,
    ended_ms     BIGINT,
    width        BIGINT NOT NULL,
    height       BIGINT NOT NULL,
    output_bytes BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, session_id)
);
CREATE INDEX deviceconnect_sessions_time ON deviceconnect_sessions (tenant_id, started_ms);
CREATE INDEX deviceconnect_sessions_device
    ON deviceconnect_sessions (tenant_id, device_id, started_ms);
CREATE INDEX deviceconnect_sessions_age ON deviceconnect_sessions (started_ms);
CREATE INDEX deviceconnect_sessions_open ON deviceconnect_sessions (instance_id, ended_ms);

CREATE TABLE deviceconnect_recordings (
    tenant_id  TEXT   NOT NULL,
    session_id TEXT   NOT NULL,
    part       BIGINT NOT NULL,
    data       BLOB   NOT NULL,
    PRIMARY KEY (tenant_id, session_id, part)
);
