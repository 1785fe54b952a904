-- What a run's gateway let pass and what it refused: the ledger. Entries are appended and never changed.

PRAGMA user_version = 3;

CREATE TABLE egress (
    seq         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    run_id      TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at_ms       INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    port        INTEGER CHECK (port BETWEEN 1 AND 65535),
    address     TEXT,
    rule        TEXT,
    verdict     TEXT    NOT NULL,
    bytes_up    INTEGER NOT NULL CHECK (bytes_up >= 0),
    bytes_down  INTEGER NOT NULL CHECK (bytes_down >= 0),
    duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0),
    method      TEXT,
    path        TEXT,
    status      INTEGER CHECK (status BETWEEN 0 AND 65535),
    credential  TEXT,
    CHECK ((method IS NULL) = (path IS NULL)),
    CHECK (method IS NOT NULL OR (status IS NULL AND credential IS NULL))
) STRICT;

CREATE INDEX egress_of_run ON egress (run_id, seq);

CREATE TRIGGER egress_stays BEFORE UPDATE ON egress
BEGIN
    SELECT RAISE(ABORT, 'the ledger is never changed');
END;

CREATE TRIGGER egress_goes_with_its_run BEFORE DELETE ON egress
WHEN EXISTS (SELECT 1 FROM runs WHERE id = OLD.run_id)
BEGIN
    SELECT RAISE(ABORT, 'the ledger goes only with its run');
END;
