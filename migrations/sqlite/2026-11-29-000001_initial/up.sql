-- Times are in Unix seconds. SQLite has no boolean type: such a column is 0 or 1.

-- The directory: the tables that every node keeps in memory. Triggers number each change to their rows from a counter, and
-- each node reads what changed after the last number it has seen. SQLite has a single writer, so changes commit in the
-- order of their numbers.
CREATE TABLE revision (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL,
    -- The revision of the last tombstone that was pruned.
    forgotten INTEGER NOT NULL,
    -- Changes when the database is restored, failed over or copied. Tokens of an earlier epoch are refused.
    epoch BLOB NOT NULL
) STRICT;
INSERT INTO revision (id, value, forgotten, epoch) VALUES (1, 0, 0, randomblob(16));

-- A random stamp for each of the counter's last values. A failover can lose revisions, and later changes get the same
-- numbers. A node that has seen a lost revision notices that its stamp differs.
CREATE TABLE revision_stamps (
    revision INTEGER NOT NULL PRIMARY KEY,
    stamp INTEGER NOT NULL
) STRICT;
INSERT INTO revision_stamps (revision, stamp) VALUES (0, random());

CREATE TRIGGER revision_moved AFTER UPDATE OF value ON revision BEGIN
    DELETE FROM revision_stamps WHERE revision >= NEW.value;
    INSERT INTO revision_stamps (revision, stamp) VALUES (NEW.value, random());
END;

-- AUTOINCREMENT: the id of a deleted user is never given to another one.
CREATE TABLE users (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL,
    -- The normalised name. A deleted account has a hash of it, which reserves the name.
    username_key TEXT NOT NULL UNIQUE,
    nick TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    -- Tokens of an earlier generation are revoked.
    generation INTEGER NOT NULL DEFAULT 0,
    suspended INTEGER NOT NULL DEFAULT FALSE CHECK (suspended IN (FALSE, TRUE)),
    -- The account was deleted. Its row stays and reserves its id and its name.
    ended INTEGER NOT NULL DEFAULT FALSE CHECK (ended IN (FALSE, TRUE)),
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX users_revision ON users (revision);
-- The bcrypt cost of each password hash: a refused sign-in takes as long as the most expensive one.
CREATE INDEX users_hash_cost ON users (substr(replace(password_hash, 'gb1', ''), 5, 2)) WHERE NOT ended;

CREATE TABLE domains (
    id TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The order of registration: the revision at which the domain was registered. Times can be equal.
    number INTEGER NOT NULL DEFAULT 0,
    host TEXT NOT NULL,
    plan TEXT NOT NULL,
    -- The scopes and audiences that its tokens may have, separated by spaces. NULL allows all.
    scopes TEXT,
    audiences TEXT,
    -- The public keys (JWK Set) of a domain that authenticates by keys instead of a secret, and when they were set.
    jwks TEXT,
    jwks_since INTEGER,
    -- When its owner verified control of the host. NULL: unverified.
    verified_at INTEGER,
    -- Another registration has verified the host. This one gets no tokens.
    superseded INTEGER NOT NULL DEFAULT FALSE CHECK (superseded IN (FALSE, TRUE)),
    -- Tokens of an earlier generation are revoked.
    generation INTEGER NOT NULL DEFAULT 0,
    suspended INTEGER NOT NULL DEFAULT FALSE CHECK (suspended IN (FALSE, TRUE)),
    -- Unverified and unused for 90 days. No node keeps the domain or its secrets in memory.
    dormant INTEGER NOT NULL DEFAULT FALSE CHECK (dormant IN (FALSE, TRUE)),
    -- The last recorded activity. NULL after a registration or a change.
    active_at INTEGER,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user_id, host)
) STRICT;
CREATE INDEX domains_revision ON domains (revision);
CREATE INDEX domains_host ON domains (host, superseded);
-- At most one registration of a host is verified.
CREATE UNIQUE INDEX domains_verified_host ON domains (host) WHERE verified_at IS NOT NULL;
CREATE INDEX domains_activity ON domains (dormant, active_at) WHERE verified_at IS NULL;

CREATE TABLE secrets (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    domain_id TEXT NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    digest BLOB NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    -- NULL: valid until it is retired.
    expires_at INTEGER,
    -- As `domains.dormant`.
    dormant INTEGER NOT NULL DEFAULT FALSE CHECK (dormant IN (FALSE, TRUE)),
    created_at INTEGER NOT NULL,
    -- The actor, and the network address of its request.
    created_by TEXT,
    created_from TEXT,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX secrets_domain ON secrets (domain_id);
CREATE INDEX secrets_revision ON secrets (revision);
-- Few secrets expire, and expired ones are looked for often.
CREATE INDEX secrets_expires_at ON secrets (expires_at) WHERE expires_at IS NOT NULL;

-- Private keys that sign tokens, sealed. A key signs from `signs_from` until `signs_until` or until its successor signs.
CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL,
    signs_until INTEGER,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX signing_keys_revision ON signing_keys (revision);

-- Tokens that were revoked one by one. Every node forgets a row at its token's `exp`, so its deletion leaves no tombstone.
CREATE TABLE revocations (
    jti BLOB NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX revocations_revision ON revocations (revision);
CREATE INDEX revocations_expires_at ON revocations (expires_at);

-- Client assertions that a node has accepted, so that no other node accepts them again. Every node forgets a row at its
-- assertion's `exp`, so its deletion leaves no tombstone. No foreign key: a row can be written after its tenant is deleted.
CREATE TABLE used_assertions (
    fingerprint BLOB NOT NULL PRIMARY KEY,
    tenant INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX used_assertions_revision ON used_assertions (revision);
CREATE INDEX used_assertions_expires_at ON used_assertions (expires_at);

-- The deletions, for nodes that read only what changed. A row names one user, domain, secret or signing key.
CREATE TABLE tombstones (
    revision INTEGER NOT NULL PRIMARY KEY,
    user_id INTEGER,
    domain_id TEXT,
    secret_digest BLOB,
    kid TEXT,
    buried_at INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;

-- A row that is inserted with a revision is not numbered again: an import reserves many revisions at once.
CREATE TRIGGER users_inserted AFTER INSERT ON users WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE users SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER users_updated AFTER UPDATE ON users WHEN NEW.revision = OLD.revision BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE users SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN
    UPDATE revision SET value = value + 1;
    INSERT INTO tombstones (revision, user_id) SELECT value, OLD.id FROM revision;
END;

CREATE TRIGGER domains_inserted AFTER INSERT ON domains WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET (revision, number) = (SELECT value, value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER domains_updated AFTER UPDATE ON domains WHEN NEW.revision = OLD.revision BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER domains_deleted AFTER DELETE ON domains BEGIN
    UPDATE revision SET value = value + 1;
    INSERT INTO tombstones (revision, domain_id) SELECT value, OLD.id FROM revision;
END;

CREATE TRIGGER secrets_inserted AFTER INSERT ON secrets WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE secrets SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER secrets_updated AFTER UPDATE ON secrets WHEN NEW.revision = OLD.revision BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE secrets SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER secrets_deleted AFTER DELETE ON secrets BEGIN
    UPDATE revision SET value = value + 1;
    INSERT INTO tombstones (revision, secret_digest) SELECT value, OLD.digest FROM revision;
END;

CREATE TRIGGER signing_keys_inserted AFTER INSERT ON signing_keys BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE signing_keys SET revision = (SELECT value FROM revision) WHERE kid = NEW.kid;
END;
CREATE TRIGGER signing_keys_updated AFTER UPDATE ON signing_keys WHEN NEW.revision = OLD.revision BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE signing_keys SET revision = (SELECT value FROM revision) WHERE kid = NEW.kid;
END;
CREATE TRIGGER signing_keys_deleted AFTER DELETE ON signing_keys BEGIN
    UPDATE revision SET value = value + 1;
    INSERT INTO tombstones (revision, kid) SELECT value, OLD.kid FROM revision;
END;

CREATE TRIGGER revocations_inserted AFTER INSERT ON revocations BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE revocations SET revision = (SELECT value FROM revision) WHERE jti = NEW.jti;
END;

CREATE TRIGGER used_assertions_inserted AFTER INSERT ON used_assertions BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE used_assertions SET revision = (SELECT value FROM revision) WHERE fingerprint = NEW.fingerprint;
END;

-- The rest is read from the database only.

-- The networks that users signed in from. Wrong passwords from other networks do not lock a user out of these.
CREATE TABLE known_networks (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
) STRICT;
CREATE INDEX known_networks_seen_at ON known_networks (seen_at);

-- Deleted accounts whose data is not removed yet. No foreign key: the rows of `users` stay.
CREATE TABLE removals (
    user_id INTEGER NOT NULL PRIMARY KEY,
    ended_at INTEGER NOT NULL
) STRICT;

-- Deleted domains whose usage is not removed yet.
CREATE TABLE deleted_domains (
    domain_id TEXT NOT NULL PRIMARY KEY
) STRICT;

-- What a user must publish to verify control of a host.
CREATE TABLE challenges (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, host)
) STRICT;
CREATE INDEX challenges_expires_at ON challenges (expires_at);

-- How a domain's host was verified. It is checked again every day; `failing_since` is set while the check fails.
CREATE TABLE verified_hosts (
    domain_id TEXT NOT NULL PRIMARY KEY REFERENCES domains (id) ON DELETE CASCADE,
    method TEXT NOT NULL,
    token TEXT NOT NULL,
    checked_at INTEGER NOT NULL,
    failing_since INTEGER
) STRICT;
CREATE INDEX verified_hosts_checked_at ON verified_hosts (checked_at);

-- Verified hosts with other registrations that are not superseded yet.
CREATE TABLE supersedings (
    host TEXT NOT NULL PRIMARY KEY
) STRICT;

-- The last use of each secret, and when a browser first sent it. Not in `secrets`: a use does not change the directory.
CREATE TABLE secret_uses (
    secret_id INTEGER NOT NULL PRIMARY KEY REFERENCES secrets (id) ON DELETE CASCADE,
    used_at INTEGER NOT NULL,
    used_from TEXT,
    leaked_at INTEGER
) STRICT;

-- What each domain did on a day, in days since 1970 (UTC). No foreign key: a deleted domain's rows are removed later.
CREATE TABLE usage (
    domain_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (domain_id, day, kind)
) STRICT;
CREATE INDEX usage_day ON usage (day);

-- Who changed what. The hash of each row covers the row before it. No foreign keys: a row outlives what it describes.
CREATE TABLE audit (
    id INTEGER NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    address TEXT,
    tenant INTEGER,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_of_tenant ON audit (tenant, id);

-- The last row of the log. A transaction that appends locks it.
CREATE TABLE audit_head (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (id, last, hash) VALUES (1, 0, x'');

-- The last row that was moved to an archive file, or 0. The first row that is left follows its hash.
CREATE TABLE audit_archive (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_archive (id, last, hash) VALUES (1, 0, x'');

-- The trusted time: rows that expired before it may be deleted, however wrong a node's clock is. 0 before the first start.
CREATE TABLE trusted_time (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO trusted_time (id, at) VALUES (1, 0);

-- What was imported from another system, so that a repeated import finds it.
CREATE TABLE imports (
    source TEXT NOT NULL,
    number TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (source, number)
) STRICT;

-- The data of the tenants. Every key that a query uses contains the tenant.
CREATE TABLE posts (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    img TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX posts_of_user ON posts (user_id, id);

-- No foreign key to `users`: a hashtag is deleted with its post, and a second path to the user's row would let a changed
-- post and a deleted account wait for each other.
CREATE TABLE post_hashtags (
    user_id INTEGER NOT NULL,
    title TEXT NOT NULL,
    post_id INTEGER NOT NULL REFERENCES posts (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, title, post_id)
) STRICT;
CREATE INDEX post_hashtags_of_post ON post_hashtags (post_id);
