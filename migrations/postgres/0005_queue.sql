-- Records and queue on a server: what the migrations of SQLite up to this number come to. Times are milliseconds since the
-- epoch. What the enums of the code forbid, the checks forbid too. JSON is text: it is read back as it was written.

CREATE TABLE runs (
    id                TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    short_id          TEXT    NOT NULL GENERATED ALWAYS AS (substr(id, 25)) STORED,
    name              TEXT,
    labels            TEXT    NOT NULL CHECK (labels::json IS NOT NULL),
    command           BYTEA   NOT NULL,
    image             TEXT    NOT NULL,
    workspace         BYTEA,
    workdir           TEXT,
    environment_names TEXT    NOT NULL CHECK (environment_names::json IS NOT NULL),
    outputs           TEXT    NOT NULL CHECK (outputs::json IS NOT NULL),
    policy_name       TEXT    NOT NULL,
    policy_digest     TEXT    NOT NULL,
    policy_asked      TEXT    NOT NULL CHECK (policy_asked::json IS NOT NULL),
    policy_resolved   TEXT    NOT NULL CHECK (policy_resolved::json IS NOT NULL),
    policy_effective  TEXT    NOT NULL CHECK (policy_effective::json IS NOT NULL),
    limits            TEXT    NOT NULL CHECK (limits::json IS NOT NULL),
    state             TEXT    NOT NULL CHECK (state IN ('queued', 'leased', 'starting', 'running', 'finishing', 'done')),
    attempt           BIGINT  NOT NULL CHECK (attempt BETWEEN 0 AND 4294967295),
    epoch             BIGINT  NOT NULL CHECK (epoch >= 0),
    owner_pid         BIGINT,
    owner_lock        TEXT,
    image_id          TEXT,
    image_repo_digest TEXT,
    slot_number       BIGINT  CHECK (slot_number BETWEEN 0 AND 4294967295),
    container_id      TEXT    UNIQUE,
    attestation       TEXT    CHECK (attestation IS NULL OR attestation::json IS NOT NULL),
    created_ms        BIGINT  NOT NULL,
    started_ms        BIGINT,
    released_ms       BIGINT,
    ended_ms          BIGINT,
    outcome           TEXT    CHECK (outcome IN ('exited', 'signaled', 'timed_out', 'out_of_memory', 'output_limit',
                                                 'disk_limit', 'cancelled', 'refused', 'start_failed', 'lost')),
    outcome_detail    TEXT    CHECK (outcome_detail IS NULL OR outcome_detail::json IS NOT NULL),
    usage             TEXT    CHECK (usage IS NULL OR usage::json IS NOT NULL),
    stdout_bytes      BIGINT  CHECK (stdout_bytes >= 0),
    stderr_bytes      BIGINT  CHECK (stderr_bytes >= 0),
    log_truncated     BOOLEAN,
    output_dir        BYTEA,
    remarks           TEXT    CHECK (remarks IS NULL OR remarks::json IS NOT NULL),
    workspace_facts   TEXT    CHECK (workspace_facts IS NULL OR workspace_facts::json IS NOT NULL),
    secrets           TEXT    NOT NULL DEFAULT '[]' CHECK (secrets::json IS NOT NULL),
    project           TEXT,
    submitter         TEXT,
    CHECK ((owner_pid IS NULL) = (owner_lock IS NULL)),
    CHECK ((slot_number IS NULL) = (container_id IS NULL)),
    CHECK ((submitter IS NULL) = (project IS NULL)),
    CHECK (state NOT IN ('leased', 'starting', 'running', 'finishing') OR owner_lock IS NOT NULL),
    CHECK (state NOT IN ('running', 'finishing') OR (container_id IS NOT NULL AND released_ms IS NOT NULL)),
    CHECK ((state = 'done') = (outcome IS NOT NULL)),
    CHECK ((state = 'done') = (outcome_detail IS NOT NULL)),
    CHECK ((state = 'done') = (ended_ms IS NOT NULL)),
    CHECK ((state = 'done') = (stdout_bytes IS NOT NULL)),
    CHECK ((state = 'done') = (stderr_bytes IS NOT NULL)),
    CHECK ((state = 'done') = (log_truncated IS NOT NULL)),
    CHECK ((state = 'done') = (remarks IS NOT NULL))
);

CREATE INDEX runs_by_short_id ON runs (short_id);
CREATE INDEX runs_active ON runs (id) WHERE state <> 'done';
CREATE INDEX runs_ended ON runs (ended_ms) WHERE state = 'done';
CREATE INDEX runs_of_project ON runs (project, id) WHERE project IS NOT NULL;

CREATE TABLE events (
    seq    BIGINT NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    run_id TEXT   NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at_ms  BIGINT NOT NULL,
    kind   TEXT   NOT NULL CHECK (kind IN ('queued', 'leased', 'starting', 'bound', 'running', 'finishing', 'done',
                                           'cancel_asked', 'given_up')),
    detail TEXT   NOT NULL CHECK (detail::json IS NOT NULL)
);

CREATE INDEX events_of_run ON events (run_id, seq);

CREATE TABLE artifacts (
    run_id TEXT   NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    path   BYTEA  NOT NULL,
    bytes  BIGINT NOT NULL CHECK (bytes >= 0),
    sha256 BYTEA  NOT NULL CHECK (length(sha256) = 32),
    mode   BIGINT NOT NULL CHECK (mode BETWEEN 0 AND 4095),
    PRIMARY KEY (run_id, path)
);

CREATE TABLE egress (
    seq         BIGINT NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    run_id      TEXT   NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at_ms       BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    port        BIGINT CHECK (port BETWEEN 1 AND 65535),
    address     TEXT,
    rule        TEXT,
    verdict     TEXT   NOT NULL,
    bytes_up    BIGINT NOT NULL CHECK (bytes_up >= 0),
    bytes_down  BIGINT NOT NULL CHECK (bytes_down >= 0),
    duration_ms BIGINT NOT NULL CHECK (duration_ms >= 0),
    method      TEXT,
    path        TEXT,
    status      BIGINT CHECK (status BETWEEN 0 AND 65535),
    credential  TEXT,
    CHECK ((method IS NULL) = (path IS NULL)),
    CHECK (method IS NOT NULL OR (status IS NULL AND credential IS NULL))
);

CREATE INDEX egress_of_run ON egress (run_id, seq);

-- Events and the ledger are only ever appended; they go with their run. An outcome is recorded once.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END $$;

CREATE FUNCTION refuse_while_its_run_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM runs WHERE id = OLD.run_id) THEN
        RAISE EXCEPTION '%', TG_ARGV[0];
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER events_stay BEFORE UPDATE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse('events are never changed');
CREATE TRIGGER events_go_with_their_run BEFORE DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_while_its_run_is_kept('events go only with their run');
CREATE TRIGGER egress_stays BEFORE UPDATE ON egress
    FOR EACH ROW EXECUTE FUNCTION refuse('the ledger is never changed');
CREATE TRIGGER egress_goes_with_its_run BEFORE DELETE ON egress
    FOR EACH ROW EXECUTE FUNCTION refuse_while_its_run_is_kept('the ledger goes only with its run');
CREATE TRIGGER outcome_stays BEFORE UPDATE ON runs
    FOR EACH ROW WHEN (OLD.state = 'done') EXECUTE FUNCTION refuse('an outcome is never changed');

-- Stages: `blocked` waits for other runs, `delayed` for a time, `held` for its concurrency key, `ready` for a worker.
-- A lane is what one worker may take as well as another: a project and the labels asked for. It is compared by bytes.
CREATE TABLE queue (
    seq               BIGINT  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    run_id            TEXT    NOT NULL UNIQUE REFERENCES runs (id) ON DELETE CASCADE,
    project           TEXT    NOT NULL,
    lane              TEXT    COLLATE "C" NOT NULL CHECK (lane::json IS NOT NULL),
    stage             TEXT    NOT NULL CHECK (stage IN ('blocked', 'delayed', 'held', 'ready', 'leased')),
    priority          BIGINT  NOT NULL CHECK (priority BETWEEN -100 AND 100),
    not_before_ms     BIGINT,
    deadline_ms       BIGINT,
    concurrency_key   TEXT,
    concurrency_limit BIGINT  CHECK (concurrency_limit >= 1),
    idempotent        BOOLEAN NOT NULL,
    attempts_max      BIGINT  NOT NULL CHECK (attempts_max BETWEEN 1 AND 100),
    losses            BIGINT  NOT NULL CHECK (losses >= 0),
    failure_retries   BIGINT  NOT NULL CHECK (failure_retries >= 0),
    failures          BIGINT  NOT NULL CHECK (failures >= 0),
    excluded_worker   TEXT,
    submission        TEXT    NOT NULL CHECK (submission::json IS NOT NULL),
    epoch             BIGINT  NOT NULL CHECK (epoch >= 0),
    worker            TEXT,
    owner_lock        TEXT,
    boot              TEXT,
    lease_until_ms    BIGINT,
    cancel            TEXT,
    CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL)),
    CHECK (stage <> 'held' OR concurrency_key IS NOT NULL),
    CHECK (stage <> 'delayed' OR not_before_ms IS NOT NULL),
    CHECK ((stage = 'leased') = (worker IS NOT NULL)),
    CHECK ((stage = 'leased') = (owner_lock IS NOT NULL)),
    CHECK ((stage = 'leased') = (lease_until_ms IS NOT NULL)),
    CHECK (cancel IS NULL OR stage = 'leased')
);

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
    success    BOOLEAN NOT NULL,
    ended_well BOOLEAN,
    PRIMARY KEY (run_id, after_id)
);

CREATE INDEX dependencies_after ON dependencies (after_id) WHERE ended_well IS NULL;
CREATE INDEX dependencies_ended ON dependencies (run_id) WHERE ended_well IS NOT NULL;

-- When a project was served last: a number that grows with each claim.
CREATE TABLE shares (
    project TEXT   NOT NULL PRIMARY KEY,
    served  BIGINT NOT NULL CHECK (served >= 0)
);

CREATE TABLE workers (
    name       TEXT   NOT NULL PRIMARY KEY,
    owner_pid  BIGINT NOT NULL,
    owner_lock TEXT   NOT NULL,
    labels     TEXT   NOT NULL CHECK (labels::json IS NOT NULL),
    seen_ms    BIGINT NOT NULL
);

-- Same key and same body: the same run. `expires_ms` is null until the run has ended.
CREATE TABLE idempotency (
    project     TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    body_sha256 BYTEA  NOT NULL CHECK (length(body_sha256) = 32),
    run_id      TEXT   NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    expires_ms  BIGINT,
    PRIMARY KEY (project, key)
);

CREATE INDEX idempotency_of_run ON idempotency (run_id);
CREATE INDEX idempotency_expires ON idempotency (expires_ms) WHERE expires_ms IS NOT NULL;

-- What a project may use; null is no limit. The lists are JSON: null allows what the server allows.
CREATE TABLE projects (
    name                TEXT   NOT NULL PRIMARY KEY,
    runs_max            BIGINT CHECK (runs_max >= 0),
    queued_max          BIGINT CHECK (queued_max >= 0),
    cpu_seconds_day_max BIGINT CHECK (cpu_seconds_day_max >= 0),
    storage_bytes_max   BIGINT CHECK (storage_bytes_max >= 0),
    ceiling             TEXT,
    images              TEXT   CHECK (images IS NULL OR images::json IS NOT NULL),
    secrets             TEXT   CHECK (secrets IS NULL OR secrets::json IS NOT NULL)
);

-- CPU time of a project's runs by the day (of the epoch) on which they ended.
CREATE TABLE usage_days (
    project TEXT   NOT NULL,
    day     BIGINT NOT NULL,
    cpu_ms  BIGINT NOT NULL CHECK (cpu_ms >= 0),
    PRIMARY KEY (project, day)
);
