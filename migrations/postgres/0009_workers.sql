-- How much a worker takes and whether an operator lets it take anything; and the role of those that hand in what runs of
-- theirs left behind.

ALTER TABLE workers ADD COLUMN capacity BIGINT NOT NULL DEFAULT 0 CHECK (capacity >= 0);
ALTER TABLE workers ADD COLUMN draining BOOLEAN NOT NULL DEFAULT FALSE;

ALTER TABLE tokens DROP CONSTRAINT tokens_role_check;
ALTER TABLE tokens ADD CONSTRAINT tokens_role_check
    CHECK (role IN ('submit', 'read', 'approve', 'admin', 'worker'));
