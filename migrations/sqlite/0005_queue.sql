-- Runs that wait, and who has those that were claimed. A row lives here only until its run has an outcome, so that a million
-- finished runs cost the queue nothing, and what was submitted (it may hold secrets) is forgotten with it.

PRAGMA user_version = 5;

-- Whose a run is and who submitted it; both are there for runs that came through the queue.
ALTER TABLE runs ADD COLUMN project TEXT;
ALTER TABLE runs ADD COLUMN submitter TEXT CHECK ((submitter IS NULL) = (project IS NULL));

CREATE INDEX runs_of_project ON runs (project, id) WHERE project IS NOT NULL;

-- The kinds of events grow by two, and a CHECK cannot be changed in its place.
CREATE TABLE events_5 (
    seq    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    run_id TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at_ms  INTEGER NOT NULL,
    kind   TEXT    NOT NULL CHECK (kind IN ('queued', 'leased', 'starting', 'bound', 'running', 'finishing', 'done',
                                            'cancel_asked', 'given_up')),
    detail TEXT    NOT NULL CHECK (json_valid(detail))
) STRICT;

INSERT INTO events_5 SELECT seq, run_id, at_ms, kind, detail FROM events;
DROP TABLE events;
ALTER TABLE events_5 RENAME TO events;

CREATE INDEX events_of_run ON events (run_id, seq);

CREATE TRIGGER events_stay BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;

CREATE TRIGGER events_go_with_their_run BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM runs WHERE id = OLD.run_id)
BEGIN
    SELECT RAISE(ABORT, 'events go only with their run');
END;

-- Stages: `blocked` waits for other runs, `delayed` for a time, `held` for its concurrency key, `ready` for a worker.
-- A lane is what one worker may take as well as another: a project and the labels asked for.
CREATE TABLE queue (
    seq               INTEGER NOT NULL PRIMARY KEY,
    run_id            TEXT    NOT NULL UNIQUE REFERENCES runs (id) ON DELETE CASCADE,
    project           TEXT    NOT NULL,
    lane              TEXT    NOT NULL CHECK (json_valid(lane)),
    stage             TEXT    NOT NULL CHECK (stage IN ('blocked', 'delayed', 'held', 'ready', 'leased')),
    priority          INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    not_before_ms     INTEGER,
    deadline_ms       INTEGER,
    concurrency_key   TEXT,
    concurrency_limit INTEGER CHECK (concurrency_limit >= 1),
    idempotent        INTEGER NOT NULL CHECK (idempotent IN (0, 1)),
    attempts_max      INTEGER NOT NULL CHECK (attempts_max BETWEEN 1 AND 100),
    losses            INTEGER NOT NULL CHECK (losses >= 0),
    failure_retries   INTEGER NOT NULL CHECK (failure_retries >= 0),
    failures          INTEGER NOT NULL CHECK (failures >= 0),
    excluded_worker   TEXT,
    submission        TEXT    NOT NULL CHECK (json_valid(submission)),
    epoch             INTEGER NOT NULL CHECK (epoch >= 0),
    worker            TEXT,
    owner_lock        TEXT,
    boot              TEXT,
    lease_until_ms    INTEGER,
    cancel            TEXT,
    CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL)),
    CHECK (stage <> 'held' OR concurrency_key IS NOT NULL),
    CHECK (stage <> 'delayed' OR not_before_ms IS NOT NULL),
    CHECK ((stage = 'leased') = (worker IS NOT NULL)),
    CHECK ((stage = 'leased') = (owner_lock IS NOT NULL)),
    CHECK ((stage = 'leased') = (lease_until_ms IS NOT NULL)),
    CHECK (cancel IS NULL OR stage = 'leased')
) STRICT;

CREATE INDEX queue_ready ON queue (lane, priority DESC, seq) WHERE stage = 'ready';
CREATE INDEX queue_leased ON queue (project) WHERE stage = 'leased';
CREATE INDEX queue_lease_ends ON queue (lease_until_ms) WHERE stage = 'leased';
CREATE INDEX queue_delayed ON queue (not_before_ms) WHERE stage = 'delayed';
CREATE INDEX queue_deadlines ON queue (deadline_ms) WHERE deadline_ms IS NOT NULL;
CREATE INDEX queue_of_project ON queue (project) WHERE stage <> 'leased';
CREATE INDEX queue_keys ON queue (project, concurrency_key, priority DESC, seq)
    WHERE concurrency_key IS NOT NULL AND stage IN ('held', 'ready');
CREATE INDEX queue_keys_leased ON queue (project, concurrency_key)
    WHERE concurrency_key IS NOT NULL AND stage = 'leased';
CREATE INDEX queue_keys_ready ON queue (project, concurrency_key)
    WHERE concurrency_key IS NOT NULL AND stage = 'ready';
CREATE INDEX queue_key_limits ON queue (project, concurrency_key, concurrency_limit)
    WHERE concurrency_key IS NOT NULL AND stage IN ('held', 'ready', 'leased');

-- What a run still waits for. `ended_well` is null until the other has ended.
CREATE TABLE dependencies (
    run_id     TEXT    NOT NULL REFERENCES queue (run_id) ON DELETE CASCADE,
    after_id   TEXT    NOT NULL,
    success    INTEGER NOT NULL CHECK (success IN (0, 1)),
    ended_well INTEGER CHECK (ended_well IN (0, 1)),
    PRIMARY KEY (run_id, after_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX dependencies_after ON dependencies (after_id) WHERE ended_well IS NULL;
CREATE INDEX dependencies_ended ON dependencies (run_id) WHERE ended_well IS NOT NULL;

-- When a project was served last: a number that grows with each claim.
CREATE TABLE shares (
    project TEXT    NOT NULL PRIMARY KEY,
    served  INTEGER NOT NULL CHECK (served >= 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX shares_served ON shares (served);

CREATE TABLE workers (
    name       TEXT    NOT NULL PRIMARY KEY,
    owner_pid  INTEGER NOT NULL,
    owner_lock TEXT    NOT NULL,
    labels     TEXT    NOT NULL CHECK (json_valid(labels)),
    seen_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Same key and same body: the same run. `expires_ms` is null until the run has ended.
CREATE TABLE idempotency (
    project     TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    body_sha256 BLOB    NOT NULL CHECK (length(body_sha256) = 32),
    run_id      TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    expires_ms  INTEGER,
    PRIMARY KEY (project, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_of_run ON idempotency (run_id);
CREATE INDEX idempotency_expires ON idempotency (expires_ms) WHERE expires_ms IS NOT NULL;

-- What a project may use; null is no limit. The lists are JSON: null allows what the server allows.
CREATE TABLE projects (
    name                TEXT    NOT NULL PRIMARY KEY,
    runs_max            INTEGER CHECK (runs_max >= 0),
    queued_max          INTEGER CHECK (queued_max >= 0),
    cpu_seconds_day_max INTEGER CHECK (cpu_seconds_day_max >= 0),
    storage_bytes_max   INTEGER CHECK (storage_bytes_max >= 0),
    ceiling             TEXT,
    images              TEXT    CHECK (json_valid(images)),
    secrets             TEXT    CHECK (json_valid(secrets))
) STRICT, WITHOUT ROWID;

-- CPU time of a project's runs by the day (of the epoch) on which they ended.
CREATE TABLE usage_days (
    project TEXT    NOT NULL,
    day     INTEGER NOT NULL,
    cpu_ms  INTEGER NOT NULL CHECK (cpu_ms >= 0),
    PRIMARY KEY (project, day)
) STRICT, WITHOUT ROWID;
