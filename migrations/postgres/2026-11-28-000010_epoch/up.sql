-- The epoch changes when the database was restored, failed over or copied: every token of an earlier epoch is refused.
ALTER TABLE revision ADD COLUMN epoch BYTEA NOT NULL DEFAULT '';
UPDATE revision SET epoch = decode(md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text), 'hex');
