-- What a domain may ask for (NULL: all that there is), and the public keys of one that has keys instead of a secret.
ALTER TABLE domains ADD COLUMN scopes TEXT;
ALTER TABLE domains ADD COLUMN audiences TEXT;
ALTER TABLE domains ADD COLUMN jwks TEXT;

-- Private keys, sealed; `signs_from` and `signs_until` are Unix seconds.
CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL CHECK (algorithm IN ('ES256', 'EdDSA', 'RS256')),
    sealed BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    signs_until BIGINT,
    revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX signing_keys_revision ON signing_keys (revision);

-- Tokens revoked one by one. A row is of no use after its token's `exp`, and every node knows that by itself:
-- so its deletion leaves no tombstone.
CREATE TABLE revocations (
    jti BLOB NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX revocations_revision ON revocations (revision);
CREATE INDEX revocations_expires_at ON revocations (expires_at);

ALTER TABLE tombstones ADD COLUMN kid TEXT;

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
