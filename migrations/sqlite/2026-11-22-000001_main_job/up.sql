-- The directory: what the hot path keeps in memory. Each of its tables has a `revision`
-- that triggers set from this one-row counter. SQLite has a single writer, so commit
-- order is revision order.
CREATE TABLE revision (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);
INSERT INTO revision (id, value) VALUES (1, 0);

-- AUTOINCREMENT: the number of a deleted user is never given to another tenant.
CREATE TABLE users (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL,
    username_key TEXT NOT NULL UNIQUE,
    nick TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    generation BIGINT NOT NULL DEFAULT 0,
    suspended BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX users_revision ON users (revision);

CREATE TABLE domains (
    id TEXT NOT NULL PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    plan TEXT NOT NULL CHECK (plan IN ('free', 'premium')),
    generation BIGINT NOT NULL DEFAULT 0,
    suspended BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 0,
    UNIQUE (user_id, host)
);
CREATE INDEX domains_revision ON domains (revision);

CREATE TABLE secrets (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    domain_id TEXT NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    digest BLOB NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX secrets_domain ON secrets (domain_id);
CREATE INDEX secrets_revision ON secrets (revision);

-- What was deleted, so that a node that reads only the difference learns of it.
-- A row names one of: a user, a domain, a secret.
CREATE TABLE tombstones (
    revision BIGINT NOT NULL PRIMARY KEY,
    user_id BIGINT,
    domain_id TEXT,
    secret_digest BLOB
);

CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN
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

CREATE TRIGGER domains_inserted AFTER INSERT ON domains BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER domains_updated AFTER UPDATE ON domains WHEN NEW.revision = OLD.revision BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
CREATE TRIGGER domains_deleted AFTER DELETE ON domains BEGIN
    UPDATE revision SET value = value + 1;
    INSERT INTO tombstones (revision, domain_id) SELECT value, OLD.id FROM revision;
END;

CREATE TRIGGER secrets_inserted AFTER INSERT ON secrets BEGIN
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

-- The tenant's data. The tenant stands in every key that a query can use.
CREATE TABLE posts (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    img TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX posts_of_user ON posts (user_id, id);

-- No foreign key to users: a hashtag goes with its post, and a second way to the user's row would let a changed post and
-- a deleted account wait for each other.
CREATE TABLE post_hashtags (
    user_id BIGINT NOT NULL,
    title TEXT NOT NULL,
    post_id BIGINT NOT NULL REFERENCES posts (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, title, post_id)
);
CREATE INDEX post_hashtags_of_post ON post_hashtags (post_id);
