-- How a workspace was filled: what of the repository went in, and what stayed outside because it looks like a secret.

PRAGMA user_version = 2;

ALTER TABLE runs ADD COLUMN workspace_facts TEXT CHECK (workspace_facts IS NULL OR json_valid(workspace_facts));
