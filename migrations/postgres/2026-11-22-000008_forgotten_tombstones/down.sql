ALTER TABLE revision DROP COLUMN forgotten;
ALTER TABLE tombstones DROP COLUMN buried_at;
