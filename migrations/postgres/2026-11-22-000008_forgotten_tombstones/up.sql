-- Tombstones are pruned some days after they were made, by `buried_at` (Unix seconds). Those that are there count from now on.
-- `forgotten` is the revision of the last one that was pruned.
ALTER TABLE tombstones ADD COLUMN buried_at BIGINT NOT NULL DEFAULT extract(epoch FROM now())::BIGINT;
ALTER TABLE revision ADD COLUMN forgotten BIGINT NOT NULL DEFAULT 0;
