DROP TABLE revocations;
DROP TABLE signing_keys;

CREATE OR REPLACE FUNCTION bury() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        INSERT INTO tombstones (revision, user_id) VALUES (next_revision(), OLD.id);
    ELSIF TG_TABLE_NAME = 'domains' THEN
        INSERT INTO tombstones (revision, domain_id) VALUES (next_revision(), OLD.id);
    ELSE
        INSERT INTO tombstones (revision, secret_digest) VALUES (next_revision(), OLD.digest);
    END IF;
    RETURN OLD;
END $$;

ALTER TABLE tombstones DROP COLUMN kid;
ALTER TABLE domains DROP COLUMN jwks;
ALTER TABLE domains DROP COLUMN audiences;
ALTER TABLE domains DROP COLUMN scopes;
