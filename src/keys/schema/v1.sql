-- Moments are milliseconds since 1970. Nothing here can be turned back into a key.
CREATE TABLE api_keys (
    id             TEXT PRIMARY KEY NOT NULL,
    digest         BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    -- How the digest was computed, so that several ways can stand side by side.
    digest_kind    TEXT NOT NULL,
    name           TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('organization', 'user')),
    org_code       TEXT,
    user_id        TEXT,
    -- A JSON array of strings.
    scopes         TEXT NOT NULL CHECK (json_type(scopes) = 'array'),
    -- By these the owner of a key recognizes it.
    prefix         TEXT NOT NULL,
    suffix         TEXT NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('active', 'revoked')),
    created_on     INTEGER NOT NULL,
    revoked_on     INTEGER,
    revoked_reason TEXT,
    expires_on     INTEGER,

    CHECK (iif(kind = 'user', user_id, org_code) IS NOT NULL),
    CHECK ((status = 'revoked') = (revoked_on IS NOT NULL))
) STRICT;
