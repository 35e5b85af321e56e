-- Whether the owner has proven control of the host (`proven_at`, Unix seconds), and whether somebody else has (`ousted`):
-- then this registration gets no tokens. A host is proven by one registration at most.
ALTER TABLE domains ADD COLUMN proven_at BIGINT;
ALTER TABLE domains ADD COLUMN ousted BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX domains_host ON domains (host);
CREATE UNIQUE INDEX domains_proven_host ON domains (host) WHERE proven_at IS NOT NULL;

-- What a user has to publish to prove control of a host; good until `expires_at`.
CREATE TABLE challenges (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, host)
);
CREATE INDEX challenges_expires_at ON challenges (expires_at);

-- How a proven domain was proven, for looking again each day; `failing_since` while it is not found.
CREATE TABLE proofs (
    domain_id TEXT NOT NULL PRIMARY KEY REFERENCES domains (id) ON DELETE CASCADE,
    method TEXT NOT NULL CHECK (method IN ('dns', 'file')),
    token TEXT NOT NULL,
    checked_at BIGINT NOT NULL,
    failing_since BIGINT
);
CREATE INDEX proofs_checked_at ON proofs (checked_at);

-- Few are retired; those are looked for again and again.
CREATE INDEX secrets_expires_at ON secrets (expires_at) WHERE expires_at IS NOT NULL;

-- The last use of a secret, and when one first came from a browser. Not in `secrets`: a use is no change of the directory.
CREATE TABLE secret_uses (
    secret_id BIGINT NOT NULL PRIMARY KEY REFERENCES secrets (id) ON DELETE CASCADE,
    used_at BIGINT NOT NULL,
    used_from TEXT,
    leaked_at BIGINT
);

-- What a domain did on a day (days since 1970, UTC).
CREATE TABLE usage (
    domain_id TEXT NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    day BIGINT NOT NULL,
    kind TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (domain_id, day, kind)
);
CREATE INDEX usage_day ON usage (day);

-- What came for so many domains at once that adding it would take long: JSON, by the end of the domains' ids, until it is
-- added little by little.
CREATE TABLE usage_log (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    bucket TEXT NOT NULL,
    counts TEXT NOT NULL
);
CREATE INDEX usage_log_bucket ON usage_log (bucket);

-- Who changed what. Each row's hash covers the row before; `audit_head` has the last one, and its row is locked by who
-- appends. No keys to other tables: what is told outlives what it tells of.
CREATE TABLE audit (
    id BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT,
    tenant BIGINT,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT,
    hash BLOB NOT NULL
);
CREATE INDEX audit_of_tenant ON audit (tenant, id);
CREATE TABLE audit_head (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL,
    hash BLOB NOT NULL
);
INSERT INTO audit_head (id, last, hash) VALUES (1, 0, x'');

-- What was imported from another system, so that the same import again finds it.
CREATE TABLE imports (
    source TEXT NOT NULL,
    number TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (source, number)
);
