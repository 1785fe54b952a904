-- How much a worker takes and whether an operator lets it take anything; and the role of those that hand in what runs of
-- theirs left behind. A check cannot be changed in its place, so the table of tokens is written anew.

PRAGMA user_version = 9;

ALTER TABLE workers ADD COLUMN capacity INTEGER NOT NULL DEFAULT 0 CHECK (capacity >= 0);
ALTER TABLE workers ADD COLUMN draining INTEGER NOT NULL DEFAULT 0 CHECK (draining IN (0, 1));

CREATE TABLE tokens_anew (
    name          TEXT    NOT NULL PRIMARY KEY,
    role          TEXT    NOT NULL CHECK (role IN ('submit', 'read', 'approve', 'admin', 'worker')),
    project       TEXT,
    secret_sha256 BLOB    NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    created_by    TEXT    NOT NULL,
    created_ms    INTEGER NOT NULL,
    expires_ms    INTEGER,
    last_used_ms  INTEGER,
    revoked_ms    INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO tokens_anew (name, role, project, secret_sha256, created_by, created_ms, expires_ms, last_used_ms, revoked_ms)
SELECT name, role, project, secret_sha256, created_by, created_ms, expires_ms, last_used_ms, revoked_ms FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_anew RENAME TO tokens;
