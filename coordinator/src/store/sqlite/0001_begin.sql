-- Text that PostgreSQL reads as well: BIGINT, TEXT, no engine's own functions. Times are milliseconds since 1970, UTC;
-- truths are 0 and 1.

-- One row per operation: the position that an append must expect, and what lists show.
CREATE TABLE operation (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    position BIGINT NOT NULL,
    is_open BIGINT NOT NULL,
    finished BIGINT NOT NULL,
    complete BIGINT NOT NULL,
    deployment TEXT,
    target TEXT,
    deleted_at BIGINT,
    head TEXT NOT NULL
);
CREATE INDEX operation_by_kind ON operation (kind, id);
CREATE INDEX operation_by_target ON operation (target, finished);
CREATE INDEX operation_open ON operation (is_open, id);

-- The histories. A row is never changed.
CREATE TABLE event (
    operation TEXT NOT NULL REFERENCES operation (id),
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (operation, position)
);

-- Requests that began an operation, by the caller's own id.
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    operation TEXT NOT NULL REFERENCES operation (id)
);

-- Which operation owns a host, which one had it last, and the highest generation that was given or accepted.
CREATE TABLE ownership (
    host TEXT PRIMARY KEY,
    generation BIGINT NOT NULL,
    owner TEXT,
    last_owner TEXT
);
CREATE INDEX ownership_by_owner ON ownership (owner);

-- The hosts that have been seen.
CREATE TABLE host (
    name TEXT PRIMARY KEY,
    last_seen BIGINT NOT NULL,
    labels TEXT NOT NULL,
    inconsistent BIGINT NOT NULL,
    details TEXT NOT NULL
);
