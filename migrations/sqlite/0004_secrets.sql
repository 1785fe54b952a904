-- Which secrets went into a sandbox, by name and place. A value is never here.

PRAGMA user_version = 4;

ALTER TABLE runs ADD COLUMN secrets TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(secrets));
