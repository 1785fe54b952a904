-- Who may speak to a server, and what was decided about it. Of a token's secret only the digest is here.

CREATE TABLE tokens (
    name          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    role          TEXT   NOT NULL CHECK (role IN ('submit', 'read', 'approve', 'admin')),
    project       TEXT,
    secret_sha256 BYTEA  NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    created_by    TEXT   NOT NULL,
    created_ms    BIGINT NOT NULL,
    expires_ms    BIGINT,
    last_used_ms  BIGINT,
    revoked_ms    BIGINT
);

CREATE TABLE audit (
    seq        BIGINT NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at_ms      BIGINT NOT NULL,
    who        TEXT   NOT NULL,
    what       TEXT   NOT NULL,
    decision   TEXT   NOT NULL CHECK (decision IN ('allowed', 'refused')),
    object     TEXT,
    request_id TEXT,
    detail     TEXT   NOT NULL CHECK (detail::json IS NOT NULL)
);

CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit trail is never changed');
