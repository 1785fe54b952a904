-- What is kept of a submission once its run has ended, so that it can be submitted anew. Values of the environment are not.

PRAGMA user_version = 8;

CREATE TABLE past_submissions (
    run_id            TEXT    NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    submission        TEXT    NOT NULL CHECK (json_valid(submission)),
    lane              TEXT    NOT NULL CHECK (json_valid(lane)),
    priority          INTEGER NOT NULL,
    concurrency_key   TEXT,
    concurrency_limit INTEGER,
    idempotent        INTEGER NOT NULL CHECK (idempotent IN (0, 1)),
    attempts_max      INTEGER NOT NULL,
    failure_retries   INTEGER NOT NULL,
    CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL))
) STRICT, WITHOUT ROWID;
