DROP TABLE revocations;
DROP TABLE signing_keys;
ALTER TABLE tombstones DROP COLUMN kid;
ALTER TABLE domains DROP COLUMN jwks;
ALTER TABLE domains DROP COLUMN audiences;
ALTER TABLE domains DROP COLUMN scopes;
