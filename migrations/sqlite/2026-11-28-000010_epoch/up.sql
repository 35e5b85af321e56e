-- The epoch changes when the database was restored, failed over or copied: every token of an earlier epoch is refused.
ALTER TABLE revision ADD COLUMN epoch BLOB NOT NULL DEFAULT x'';
UPDATE revision SET epoch = randomblob(16);
