ALTER TABLE revision DROP COLUMN forgotten;
DROP TRIGGER tombstones_inserted;
ALTER TABLE tombstones DROP COLUMN buried_at;
