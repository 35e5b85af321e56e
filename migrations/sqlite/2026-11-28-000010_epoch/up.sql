-- The epoch changes when the database was restored, failed over or copied: every token of an earlier epoch is refused.
ALTER TABLE revision ADD COLUMN epoch BLOB NOT NULL DEFAULT x'';
UPDATE revision SET epoch = randomblob(16);
-- The mark is written to the file and to the witness beside it, so that a start can tell a restored file. NULL until a
-- server has used the file.
ALTER TABLE revision ADD COLUMN mark BLOB;
