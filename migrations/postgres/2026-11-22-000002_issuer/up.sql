-- What a domain may ask for (NULL: all that there is), and the public keys of one that has keys instead of a secret.
ALTER TABLE domains ADD COLUMN scopes TEXT;
ALTER TABLE domains ADD COLUMN audiences TEXT;
ALTER TABLE domains ADD COLUMN jwks TEXT;

-- Private keys, sealed; `signs_from` and `signs_until` are Unix seconds.
CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL CHECK (algorithm IN ('ES256', 'EdDSA', 'RS256')),
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    signs_until BIGINT,
    revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX signing_keys_revision ON signing_keys (revision);

-- Tokens revoked one by one. A row is of no use after its token's `exp`, and every node knows that by itself:
-- so its deletion leaves no tombstone.
CREATE TABLE revocations (
    jti BYTEA NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX revocations_revision ON revocations (revision);
CREATE INDEX revocations_expires_at ON revocations (expires_at);

ALTER TABLE tombstones ADD COLUMN kid TEXT;

CREATE OR REPLACE FUNCTION bury() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        INSERT INTO tombstones (revision, user_id) VALUES (next_revision(), OLD.id);
    ELSIF TG_TABLE_NAME = 'domains' THEN
        INSERT INTO tombstones (revision, domain_id) VALUES (next_revision(), OLD.id);
    ELSIF TG_TABLE_NAME = 'signing_keys' THEN
        INSERT INTO tombstones (revision, kid) VALUES (next_revision(), OLD.kid);
    ELSE
        INSERT INTO tombstones (revision, secret_digest) VALUES (next_revision(), OLD.digest);
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER signing_keys_changed BEFORE INSERT OR UPDATE ON signing_keys
    FOR EACH ROW EXECUTE FUNCTION stamp_revision();
CREATE TRIGGER signing_keys_deleted AFTER DELETE ON signing_keys FOR EACH ROW EXECUTE FUNCTION bury();
CREATE TRIGGER revocations_inserted BEFORE INSERT ON revocations
    FOR EACH ROW EXECUTE FUNCTION stamp_revision();
