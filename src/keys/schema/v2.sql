-- A key and the texts that open it are two things from here on: a rotated key keeps its id, and its former text may
-- open it for a while. The old table goes, so that a process of an earlier release, which knows neither address ranges
-- nor limits, cannot go on answering: it says "unavailable" until it is replaced.
CREATE TABLE key_records (
    id             TEXT PRIMARY KEY NOT NULL,
    name           TEXT NOT NULL,
    org_code       TEXT,
    user_id        TEXT,
    -- JSON: arrays of strings, and an object of strings.
    scopes         TEXT NOT NULL CHECK (json_type(scopes) = 'array'),
    api_ids        TEXT NOT NULL CHECK (json_type(api_ids) = 'array'),
    allow_from     TEXT NOT NULL CHECK (json_type(allow_from) = 'array'),
    metadata       TEXT NOT NULL CHECK (json_type(metadata) = 'object'),
    limit_requests INTEGER CHECK (limit_requests > 0),
    limit_per      INTEGER CHECK (limit_per > 0),
    -- By these the owner of a key recognizes its present text.
    prefix         TEXT NOT NULL,
    suffix         TEXT NOT NULL,
    created_on     INTEGER NOT NULL,
    created_by     TEXT,
    expires_on     INTEGER,
    rotated_on     INTEGER,
    grace_until    INTEGER,
    revoked_on     INTEGER,
    revoked_reason TEXT,
    last_used_on   INTEGER,
    use_count      INTEGER NOT NULL DEFAULT 0 CHECK (use_count >= 0),

    CHECK (org_code IS NOT NULL OR user_id IS NOT NULL),
    CHECK ((limit_requests IS NULL) = (limit_per IS NULL)),
    CHECK (revoked_on IS NOT NULL OR revoked_reason IS NULL)
) STRICT;

CREATE TABLE key_secrets (
    digest      BLOB PRIMARY KEY NOT NULL CHECK (length(digest) = 32),
    -- How the digest was computed, and under which pepper.
    scheme      TEXT NOT NULL,
    key_id      TEXT NOT NULL REFERENCES key_records (id) ON DELETE CASCADE,
    -- Absent for the present text, the end of the grace time for a former one.
    valid_until INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO key_records (id, name, org_code, user_id, scopes, api_ids, allow_from, metadata, prefix, suffix, created_on,
        expires_on, revoked_on, revoked_reason)
    SELECT id, name, org_code, user_id, scopes, '[]', '[]', '{}', prefix, suffix, created_on,
        expires_on, revoked_on, revoked_reason
    FROM api_keys;
INSERT INTO key_secrets (digest, scheme, key_id) SELECT digest, digest_kind, id FROM api_keys;
DROP TABLE api_keys;

CREATE UNIQUE INDEX present_secret ON key_secrets (key_id) WHERE valid_until IS NULL;
CREATE INDEX secrets_by_key ON key_secrets (key_id);
CREATE INDEX secrets_by_scheme ON key_secrets (scheme);
CREATE INDEX records_by_organization ON key_records (org_code, id);
CREATE INDEX records_by_user ON key_records (user_id, id);

-- Counts what can change an answer about a key, whoever writes it. Uses and new digests of the same text do not.
CREATE TABLE store_state (
    only     INTEGER PRIMARY KEY NOT NULL CHECK (only = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO store_state (only, revision) VALUES (1, 1);

CREATE TRIGGER record_added AFTER INSERT ON key_records
    BEGIN UPDATE store_state SET revision = revision + 1; END;
CREATE TRIGGER record_removed AFTER DELETE ON key_records
    BEGIN UPDATE store_state SET revision = revision + 1; END;
CREATE TRIGGER record_changed AFTER UPDATE OF id, name, org_code, user_id, scopes, api_ids, allow_from, metadata,
        limit_requests, limit_per, prefix, suffix, created_on, created_by, expires_on, rotated_on, grace_until,
        revoked_on, revoked_reason ON key_records
    BEGIN UPDATE store_state SET revision = revision + 1; END;
CREATE TRIGGER secret_added AFTER INSERT ON key_secrets
    BEGIN UPDATE store_state SET revision = revision + 1; END;
CREATE TRIGGER secret_removed AFTER DELETE ON key_secrets
    BEGIN UPDATE store_state SET revision = revision + 1; END;
CREATE TRIGGER secret_changed AFTER UPDATE OF key_id, valid_until ON key_secrets
    BEGIN UPDATE store_state SET revision = revision + 1; END;
