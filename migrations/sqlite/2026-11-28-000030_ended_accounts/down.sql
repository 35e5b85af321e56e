DROP TABLE removals;
ALTER TABLE users DROP COLUMN ended;
