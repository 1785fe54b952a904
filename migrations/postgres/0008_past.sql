-- What is kept of a submission once its run has ended, so that it can be submitted anew. Values of the environment are not.

CREATE TABLE past_submissions (
    run_id            TEXT     NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    submission        TEXT     NOT NULL CHECK (submission::json IS NOT NULL),
    lane              TEXT     NOT NULL CHECK (lane::json IS NOT NULL),
    priority          BIGINT   NOT NULL,
    concurrency_key   TEXT,
    concurrency_limit BIGINT,
    idempotent        BOOLEAN  NOT NULL,
    attempts_max      BIGINT   NOT NULL,
    failure_retries   BIGINT   NOT NULL,
    CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL))
);
