-- The tables of v2.sql in PostgreSQL's types. Texts are compared byte by byte, as SQLite does: pages are in the order
-- of the ids, whatever the database's collation.
CREATE TABLE keyward_store (
    "only"  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK ("only"),
    version BIGINT NOT NULL
);
INSERT INTO keyward_store (version) VALUES (2);

CREATE TABLE key_records (
    id             TEXT COLLATE "C" PRIMARY KEY,
    name           TEXT COLLATE "C" NOT NULL,
    org_code       TEXT COLLATE "C",
    user_id        TEXT COLLATE "C",
    -- JSON as it was written: arrays of strings, and an object of strings.
    scopes         TEXT NOT NULL CHECK (json_typeof(scopes::json) = 'array'),
    api_ids        TEXT NOT NULL CHECK (json_typeof(api_ids::json) = 'array'),
    allow_from     TEXT NOT NULL CHECK (json_typeof(allow_from::json) = 'array'),
    metadata       TEXT NOT NULL CHECK (json_typeof(metadata::json) = 'object'),
    limit_requests BIGINT CHECK (limit_requests > 0),
    limit_per      BIGINT CHECK (limit_per > 0),
    prefix         TEXT NOT NULL,
    suffix         TEXT NOT NULL,
    created_on     BIGINT NOT NULL,
    created_by     TEXT,
    expires_on     BIGINT,
    rotated_on     BIGINT,
    grace_until    BIGINT,
    revoked_on     BIGINT,
    revoked_reason TEXT,
    last_used_on   BIGINT,
    use_count      BIGINT NOT NULL DEFAULT 0 CHECK (use_count >= 0),

    CHECK (org_code IS NOT NULL OR user_id IS NOT NULL),
    CHECK ((limit_requests IS NULL) = (limit_per IS NULL)),
    CHECK (revoked_on IS NOT NULL OR revoked_reason IS NULL)
);

CREATE TABLE key_secrets (
    digest      BYTEA PRIMARY KEY CHECK (length(digest) = 32),
    scheme      TEXT COLLATE "C" NOT NULL,
    key_id      TEXT COLLATE "C" NOT NULL REFERENCES key_records (id) ON DELETE CASCADE,
    valid_until BIGINT
);

CREATE UNIQUE INDEX present_secret ON key_secrets (key_id) WHERE valid_until IS NULL;
CREATE INDEX secrets_by_key ON key_secrets (key_id);
CREATE INDEX secrets_by_scheme ON key_secrets (scheme);
CREATE INDEX records_by_organization ON key_records (org_code, id);
CREATE INDEX records_by_user ON key_records (user_id, id);

-- Tells every listener, whoever writes, which key may have another answer from the commit on. Uses and new digests of
-- the same text tell nobody. The argument is the column with the key's id.
CREATE FUNCTION keyward_tell() RETURNS trigger LANGUAGE plpgsql AS $tell$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_catalog.pg_notify('keyward_keys', pg_catalog.to_jsonb(OLD) ->> TG_ARGV[0]);
    ELSE
        PERFORM pg_catalog.pg_notify('keyward_keys', pg_catalog.to_jsonb(NEW) ->> TG_ARGV[0]);
    END IF;
    RETURN NULL;
END
$tell$;

CREATE TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON key_records
    FOR EACH ROW EXECUTE FUNCTION keyward_tell('id');
CREATE TRIGGER record_changed AFTER UPDATE OF id, name, org_code, user_id, scopes, api_ids, allow_from, metadata,
        limit_requests, limit_per, prefix, suffix, created_on, created_by, expires_on, rotated_on, grace_until,
        revoked_on, revoked_reason ON key_records
    FOR EACH ROW EXECUTE FUNCTION keyward_tell('id');
CREATE TRIGGER secret_added_or_removed AFTER INSERT OR DELETE ON key_secrets
    FOR EACH ROW EXECUTE FUNCTION keyward_tell('key_id');
CREATE TRIGGER secret_changed AFTER UPDATE OF key_id, valid_until ON key_secrets
    FOR EACH ROW EXECUTE FUNCTION keyward_tell('key_id');
-- TRUNCATE names no key; whoever empties the store has changed every answer.
CREATE FUNCTION keyward_tell_all() RETURNS trigger LANGUAGE plpgsql AS $tell$
BEGIN
    PERFORM pg_catalog.pg_notify('keyward_keys', '');
    RETURN NULL;
END
$tell$;
CREATE TRIGGER records_emptied AFTER TRUNCATE ON key_records EXECUTE FUNCTION keyward_tell_all();
CREATE TRIGGER secrets_emptied AFTER TRUNCATE ON key_secrets EXECUTE FUNCTION keyward_tell_all();
