-- Settings of devices, as objects of texts in JSON.
CREATE TABLE deviceconfig_devices (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    configured TEXT NOT NULL,
    reported TEXT NOT NULL,
    deployment_id TEXT,
    -- of the wanted configuration
    updated_ms BIGINT NOT NULL,
    reported_ms BIGINT,
    PRIMARY KEY (tenant_id, id)
);
