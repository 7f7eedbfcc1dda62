-- One row a device. What listings select and sort by has its own column; attributes are one JSON object a scope.
-- `version` guards writers of attributes, `revision` orders the states that device authentication tells of.
CREATE TABLE inventory_devices (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    version         BIGINT NOT NULL,
    created_ms      BIGINT NOT NULL,
    updated_ms      BIGINT NOT NULL,
    check_in_ms     BIGINT NOT NULL,
    status          TEXT   NOT NULL,
    revision        BIGINT NOT NULL,
    group_name      TEXT   NOT NULL,
    shape           TEXT   NOT NULL,
    identity        TEXT   NOT NULL,
    inventory       TEXT   NOT NULL,
    monitor         TEXT   NOT NULL,
    system          TEXT   NOT NULL,
    tags            TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX inventory_devices_age ON inventory_devices (tenant_id, created_ms, id);
CREATE INDEX inventory_devices_status ON inventory_devices (tenant_id, status, created_ms, id);
-- The status at the end lets "accepted devices of a group" be answered from the index alone.
CREATE INDEX inventory_devices_group ON inventory_devices (tenant_id, group_name, created_ms, id, status);
CREATE INDEX inventory_devices_seen ON inventory_devices (tenant_id) WHERE check_in_ms > 0;

-- Sets of attribute names and how many devices have exactly this set: devices of one kind share one row, so that
-- listing the names in use reads a few rows instead of every device.
CREATE TABLE inventory_shapes (
    tenant_id       TEXT   NOT NULL,
    shape           TEXT   NOT NULL,
    devices         BIGINT NOT NULL,
    names           TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, shape)
);

-- Devices that left the fleet: what is still on its way about them must not bring them back.
CREATE TABLE inventory_tombstones (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    removed_ms      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE inventory_filters (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    terms           TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX inventory_filters_name ON inventory_filters (tenant_id, name);

CREATE TABLE inventory_tenants (
    tenant_id       TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id)
);
