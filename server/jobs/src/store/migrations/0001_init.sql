-- Work that has to be done after a change. A finished job leaves no row.
CREATE TABLE jobs_jobs (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- ready: waits for due_ms, or runs under a lease that ends at due_ms; failed: kept for inspection
    state TEXT NOT NULL,
    payload TEXT NOT NULL,
    -- at most one ready job of a kind and tenant has this key
    unique_key TEXT,
    -- grows each time a job with the same key is asked for again
    generation BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    -- of the one execution that may finish it; empty when nobody runs it
    lease TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX jobs_jobs_due ON jobs_jobs (kind, state, due_ms);
CREATE UNIQUE INDEX jobs_jobs_unique ON jobs_jobs (tenant_id, kind, unique_key);
