-- Text that PostgreSQL reads as well: BIGINT, TEXT, no engine's own functions. Times are milliseconds since 1970, UTC;
-- truths are 0 and 1.

-- One row per operation: the position that an append must expect, and what lists show. Operations are counted by `sequence`,
-- and deletions by `deletion`: clocks step, so neither an id nor a time says which operation is newer. `lost` counts the
-- snapshots of a complete checkpoint that their hosts do not hold any more; `proves` says that a rollback proves its target good.
CREATE TABLE operation (
    id TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    position BIGINT NOT NULL,
    is_open BIGINT NOT NULL,
    finished BIGINT NOT NULL,
    complete BIGINT NOT NULL,
    deployment TEXT,
    target TEXT,
    proves BIGINT NOT NULL,
    lost BIGINT NOT NULL,
    deleted_at BIGINT,
    deletion BIGINT,
    head TEXT NOT NULL
);
CREATE INDEX operation_by_kind ON operation (kind, sequence);
CREATE INDEX operation_by_target ON operation (target, finished);
CREATE INDEX operation_open ON operation (is_open, sequence);
CREATE INDEX operation_by_deletion ON operation (deletion);
CREATE INDEX operation_by_proof ON operation (proves, sequence);

-- The histories. A row is never changed.
CREATE TABLE event (
    operation TEXT NOT NULL REFERENCES operation (id),
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (operation, position)
);

-- The state that an operation's first `position` events have led to, for operations with many: text that the driver writes and
-- reads. It spares replaying all of them, and can be lost at any time. `seal` is a digest of it together with the last of these
-- events: without that very event, or if anything here was damaged, it counts for nothing.
CREATE TABLE operation_state (
    operation TEXT PRIMARY KEY REFERENCES operation (id),
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    seal TEXT NOT NULL
);

-- What a complete checkpoint rests on: one snapshot on each of its hosts. `dropped_at` is since when the host says that it
-- does not hold it.
CREATE TABLE checkpoint_snapshot (
    checkpoint TEXT NOT NULL REFERENCES operation (id),
    host TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    dropped_at BIGINT,
    PRIMARY KEY (checkpoint, host)
);
CREATE INDEX checkpoint_snapshot_by_host ON checkpoint_snapshot (host);

-- Requests that began an operation, by the caller's own id.
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    operation TEXT NOT NULL REFERENCES operation (id)
);

-- Which operation owns a host, which one meant to change it last, and the highest generation that was given or accepted.
CREATE TABLE ownership (
    host TEXT PRIMARY KEY,
    generation BIGINT NOT NULL,
    owner TEXT,
    last_changer TEXT
);
CREATE INDEX ownership_by_owner ON ownership (owner);

-- The hosts that have been seen. `machines` says which machines have spoken for the name, as JSON; `forgotten_at` is since when
-- a host is none of the fleet any more: its row stays, so that whoever comes back under its name is known for a stranger.
CREATE TABLE host (
    name TEXT PRIMARY KEY,
    last_seen BIGINT NOT NULL,
    labels TEXT NOT NULL,
    inconsistent BIGINT NOT NULL,
    details TEXT NOT NULL,
    machines TEXT NOT NULL,
    forgotten_at BIGINT
);

-- Where the coordinator's time was at a moment of the machine's life: one row, which a clock that is set does not change.
CREATE TABLE timeline (
    id BIGINT PRIMARY KEY,
    boot TEXT NOT NULL,
    uptime BIGINT NOT NULL,
    time BIGINT NOT NULL
);
