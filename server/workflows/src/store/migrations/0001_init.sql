-- Workflows belong to the server, not to a tenant. Older versions are kept for the jobs that began with them.
CREATE TABLE workflows_definitions (
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    definition TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

-- Jobs with a record. The work itself is a row of the table of durable jobs with the same id.
CREATE TABLE workflows_jobs (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    workflow TEXT NOT NULL,
    version BIGINT NOT NULL,
    ephemeral BIGINT NOT NULL,
    -- pending, processing, done, failed
    status TEXT NOT NULL,
    input TEXT NOT NULL,
    -- of the tasks that have ended, in JSON
    results TEXT NOT NULL,
    -- attempts of the task after them that have ended
    attempts BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    finished_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- The interface names a job by its id alone.
CREATE UNIQUE INDEX workflows_jobs_id ON workflows_jobs (id);
CREATE INDEX workflows_jobs_end ON workflows_jobs (status, finished_ms);
