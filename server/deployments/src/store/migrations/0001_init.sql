-- An artifact is visible from the moment its row exists: the file was stored and verified before.
-- device_types, depends and document are JSON; document holds what is only shown, never searched.
CREATE TABLE artifacts (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    blob_key TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL,
    device_types TEXT NOT NULL,
    depends TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX artifacts_name ON artifacts (tenant_id, name, id);

-- One row for each combination of depends values of an artifact; two artifacts of one name must not
-- share a combination.
CREATE TABLE artifact_combinations (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    combination TEXT NOT NULL,
    artifact_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, name, combination)
);
CREATE INDEX artifact_combinations_artifact ON artifact_combinations (tenant_id, artifact_id);

-- Keys of stored files that no artifact owns: about to be owned, or about to be deleted.
CREATE TABLE artifact_orphans (
    blob_key TEXT NOT NULL PRIMARY KEY,
    since_ms BIGINT NOT NULL
);

-- The sum of artifact sizes and its limit (0: none), a row a tenant.
CREATE TABLE artifact_storage (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    limit_bytes BIGINT NOT NULL,
    usage_bytes BIGINT NOT NULL
);

-- number: names the deployment in the rows of its devices. place: the order in which a device is
-- served. published 0: targets are still being written, nobody sees it. cleaning 1: rows of its
-- devices are still to be brought to their end after an abort.
CREATE TABLE deployments (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    number BIGINT NOT NULL,
    name TEXT NOT NULL,
    artifact_name TEXT NOT NULL,
    search_text TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    starts_ms BIGINT NOT NULL,
    later BIGINT NOT NULL,
    place BIGINT NOT NULL,
    published BIGINT NOT NULL,
    cleaning BIGINT NOT NULL,
    active BIGINT NOT NULL,
    aborted BIGINT NOT NULL,
    status TEXT NOT NULL,
    finished_ms BIGINT,
    device_count BIGINT NOT NULL,
    max_devices BIGINT NOT NULL,
    target_count BIGINT NOT NULL,
    dynamic BIGINT NOT NULL,
    filter TEXT,
    group_name TEXT,
    phased BIGINT NOT NULL,
    retries BIGINT NOT NULL,
    force_installation BIGINT NOT NULL,
    total_size_bytes BIGINT NOT NULL,
    count_pending BIGINT NOT NULL,
    count_downloading BIGINT NOT NULL,
    count_pause_before_installing BIGINT NOT NULL,
    count_installing BIGINT NOT NULL,
    count_pause_before_rebooting BIGINT NOT NULL,
    count_rebooting BIGINT NOT NULL,
    count_pause_before_committing BIGINT NOT NULL,
    count_success BIGINT NOT NULL,
    count_failure BIGINT NOT NULL,
    count_noartifact BIGINT NOT NULL,
    count_already_installed BIGINT NOT NULL,
    count_aborted BIGINT NOT NULL,
    count_decommissioned BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX deployments_number ON deployments (tenant_id, number);
CREATE INDEX deployments_created ON deployments (tenant_id, created_ms, number);
CREATE INDEX deployments_status ON deployments (tenant_id, status, created_ms);
CREATE INDEX deployments_place ON deployments (tenant_id, place) WHERE later = 0;
CREATE INDEX deployments_artifact ON deployments (tenant_id, artifact_name) WHERE active = 1;
CREATE INDEX deployments_unpublished ON deployments (published) WHERE published = 0;
CREATE INDEX deployments_cleaning ON deployments (cleaning) WHERE cleaning = 1;

CREATE TABLE deployment_phases (
    tenant_id TEXT NOT NULL,
    deployment_number BIGINT NOT NULL,
    position BIGINT NOT NULL,
    id TEXT NOT NULL,
    batch_size BIGINT NOT NULL,
    starts_ms BIGINT NOT NULL,
    capacity BIGINT NOT NULL,
    device_count BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, deployment_number, position)
);

-- Which artifacts devices of a deployment choose from; kept after the artifact is gone.
CREATE TABLE deployment_artifacts (
    tenant_id TEXT NOT NULL,
    deployment_number BIGINT NOT NULL,
    artifact_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, deployment_number, artifact_id)
);
CREATE INDEX deployment_artifacts_artifact ON deployment_artifacts (tenant_id, artifact_id);

-- A device in a deployment. state 0: targeted, has not asked. 1: has asked, not finished. 2: finished.
-- 3: was targeted, will never be served. place is copied from the deployment when the device asks.
CREATE TABLE deployment_devices (
    tenant_id TEXT NOT NULL,
    deployment_number BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    state BIGINT NOT NULL,
    place BIGINT NOT NULL,
    status TEXT NOT NULL,
    offered BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    has_log BIGINT NOT NULL,
    device_type TEXT,
    artifact_id TEXT,
    artifact_size_bytes BIGINT,
    started_ms BIGINT,
    finished_ms BIGINT,
    substate TEXT,
    PRIMARY KEY (tenant_id, deployment_number, device_id)
);
CREATE INDEX deployment_devices_device ON deployment_devices (tenant_id, device_id, state, place);
CREATE INDEX deployment_devices_status ON deployment_devices (tenant_id, deployment_number, status, device_id)
    WHERE state > 0;

-- messages: JSON array of {timestamp, level, message}.
CREATE TABLE deployment_logs (
    tenant_id TEXT NOT NULL,
    deployment_number BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    messages TEXT NOT NULL,
    PRIMARY KEY (tenant_id, deployment_number, device_id)
);
