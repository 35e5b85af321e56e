-- Tombstones are pruned some days after they were made, by `buried_at` (Unix seconds). Those that are there count from now on.
-- `forgotten` is the revision of the last one that was pruned.
ALTER TABLE tombstones ADD COLUMN buried_at BIGINT NOT NULL DEFAULT 0;
UPDATE tombstones SET buried_at = unixepoch();
-- SQLite adds no column whose default is a function.
CREATE TRIGGER tombstones_inserted AFTER INSERT ON tombstones BEGIN
    UPDATE tombstones SET buried_at = unixepoch() WHERE revision = NEW.revision;
END;
ALTER TABLE revision ADD COLUMN forgotten BIGINT NOT NULL DEFAULT 0;
