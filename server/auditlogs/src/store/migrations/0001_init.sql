-- One row an event. `event` is what the API shows; the other columns are what it can be searched by.
CREATE TABLE auditlogs_events (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    time_ms         BIGINT NOT NULL,
    actor_id        TEXT   NOT NULL,
    actor_type      TEXT   NOT NULL,
    actor_email     TEXT,
    object_id       TEXT   NOT NULL,
    object_type     TEXT   NOT NULL,
    deployment_name TEXT,
    event           TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX auditlogs_events_time ON auditlogs_events (tenant_id, time_ms, id);
CREATE INDEX auditlogs_events_actor ON auditlogs_events (tenant_id, actor_id, time_ms, id);
CREATE INDEX auditlogs_events_object ON auditlogs_events (tenant_id, object_id, time_ms, id);
-- For the sweep, which goes over all tenants.
CREATE INDEX auditlogs_events_age ON auditlogs_events (time_ms);
