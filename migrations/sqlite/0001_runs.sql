-- Runs, what happened to them, and the files that came out. Times are milliseconds since the epoch.
-- What the enums of the code forbid, the checks forbid too.

-- The header says whose file this is (`Aegi`) and how new it is, so that opening needs no look at the tables.
PRAGMA application_id = 1097164649;
PRAGMA user_version = 1;

CREATE TABLE runs (
    id                TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    short_id          TEXT    NOT NULL GENERATED ALWAYS AS (substr(id, 25)) VIRTUAL,
    name              TEXT,
    labels            TEXT    NOT NULL CHECK (json_valid(labels)),
    command           BLOB    NOT NULL,
    image             TEXT    NOT NULL,
    workspace         BLOB,
    workdir           TEXT,
    environment_names TEXT    NOT NULL CHECK (json_valid(environment_names)),
    outputs           TEXT    NOT NULL CHECK (json_valid(outputs)),
    policy_name       TEXT    NOT NULL,
    policy_digest     TEXT    NOT NULL,
    policy_asked      TEXT    NOT NULL CHECK (json_valid(policy_asked)),
    policy_resolved   TEXT    NOT NULL CHECK (json_valid(policy_resolved)),
    policy_effective  TEXT    NOT NULL CHECK (json_valid(policy_effective)),
    limits            TEXT    NOT NULL CHECK (json_valid(limits)),
    state             TEXT    NOT NULL CHECK (state IN ('queued', 'leased', 'starting', 'running', 'finishing', 'done')),
    attempt           INTEGER NOT NULL CHECK (attempt BETWEEN 0 AND 4294967295),
    epoch             INTEGER NOT NULL CHECK (epoch >= 0),
    owner_pid         INTEGER,
    owner_lock        TEXT,
    image_id          TEXT,
    image_repo_digest TEXT,
    slot_number       INTEGER CHECK (slot_number BETWEEN 0 AND 4294967295),
    container_id      TEXT    UNIQUE,
    attestation       TEXT    CHECK (json_valid(attestation)),
    created_ms        INTEGER NOT NULL,
    started_ms        INTEGER,
    released_ms       INTEGER,
    ended_ms          INTEGER,
    outcome           TEXT    CHECK (outcome IN ('exited', 'signaled', 'timed_out', 'out_of_memory', 'output_limit',
                                                 'disk_limit', 'cancelled', 'refused', 'start_failed', 'lost')),
    outcome_detail    TEXT    CHECK (json_valid(outcome_detail)),
    usage             TEXT    CHECK (json_valid(usage)),
    stdout_bytes      INTEGER CHECK (stdout_bytes >= 0),
    stderr_bytes      INTEGER CHECK (stderr_bytes >= 0),
    log_truncated     INTEGER CHECK (log_truncated IN (0, 1)),
    output_dir        BLOB,
    remarks           TEXT    CHECK (json_valid(remarks)),
    CHECK ((owner_pid IS NULL) = (owner_lock IS NULL)),
    CHECK ((slot_number IS NULL) = (container_id IS NULL)),
    CHECK (state NOT IN ('leased', 'starting', 'running', 'finishing') OR owner_lock IS NOT NULL),
    CHECK (state NOT IN ('running', 'finishing') OR (container_id IS NOT NULL AND released_ms IS NOT NULL)),
    CHECK ((state = 'done') = (outcome IS NOT NULL)),
    CHECK ((state = 'done') = (outcome_detail IS NOT NULL)),
    CHECK ((state = 'done') = (ended_ms IS NOT NULL)),
    CHECK ((state = 'done') = (stdout_bytes IS NOT NULL)),
    CHECK ((state = 'done') = (stderr_bytes IS NOT NULL)),
    CHECK ((state = 'done') = (log_truncated IS NOT NULL)),
    CHECK ((state = 'done') = (remarks IS NOT NULL))
) STRICT;

CREATE INDEX runs_by_short_id ON runs (short_id);
CREATE INDEX runs_active ON runs (id) WHERE state <> 'done';
CREATE INDEX runs_ended ON runs (ended_ms) WHERE state = 'done';

CREATE TABLE events (
    seq    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    run_id TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at_ms  INTEGER NOT NULL,
    kind   TEXT    NOT NULL CHECK (kind IN ('queued', 'leased', 'starting', 'bound', 'running', 'finishing', 'done')),
    detail TEXT    NOT NULL CHECK (json_valid(detail))
) STRICT;

CREATE INDEX events_of_run ON events (run_id, seq);

-- Events are only ever appended; they go with their run when retention lets it go.
CREATE TRIGGER events_stay BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;

CREATE TRIGGER events_go_with_their_run BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM runs WHERE id = OLD.run_id)
BEGIN
    SELECT RAISE(ABORT, 'events go only with their run');
END;

-- An outcome is recorded once.
CREATE TRIGGER outcome_stays BEFORE UPDATE ON runs
WHEN OLD.state = 'done'
BEGIN
    SELECT RAISE(ABORT, 'an outcome is never changed');
END;

CREATE TABLE artifacts (
    run_id TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    path   BLOB    NOT NULL,
    bytes  INTEGER NOT NULL CHECK (bytes >= 0),
    sha256 BLOB    NOT NULL CHECK (length(sha256) = 32),
    mode   INTEGER NOT NULL CHECK (mode BETWEEN 0 AND 4095),
    PRIMARY KEY (run_id, path)
) STRICT, WITHOUT ROWID;
