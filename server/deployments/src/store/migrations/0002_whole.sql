-- control_map: JSON, where devices are to pause. configuration: text, deployments of kind 'configuration'
-- only. touched_ms: the last sign of life of whoever fills or cleans the deployment; long after it the
-- work is taken over. published -1: given up, its rows are being removed.
ALTER TABLE deployments ADD COLUMN control_map TEXT;
ALTER TABLE deployments ADD COLUMN configuration TEXT;
ALTER TABLE deployments ADD COLUMN touched_ms BIGINT NOT NULL DEFAULT 0;
CREATE INDEX deployments_dynamic ON deployments (tenant_id, place) WHERE dynamic = 1 AND active = 1;
CREATE INDEX deployments_given_up ON deployments (published) WHERE published = -1;

-- State 4: the device's history was reset, at deleted_ms; counts for the deployment, not for the device.
ALTER TABLE deployment_devices ADD COLUMN deleted_ms BIGINT;

-- The groups of all targets, where they are known: what users see whose roles are limited to groups.
CREATE TABLE deployment_groups (
    tenant_id TEXT NOT NULL,
    deployment_number BIGINT NOT NULL,
    group_name TEXT NOT NULL,
    PRIMARY KEY (tenant_id, deployment_number, group_name)
);

-- What operators note about the artifacts of a name; no row without a note. tags: JSON array, sorted.
CREATE TABLE release_notes (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    notes TEXT NOT NULL,
    tags TEXT NOT NULL,
    modified_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

-- Files that clients send straight into the store. status: pending, processing, completed or aborted.
CREATE TABLE artifact_uploads (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    blob_key TEXT NOT NULL,
    expires_ms BIGINT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- What all processes of one database share, such as the key that signs links.
CREATE TABLE deployments_secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL
);
