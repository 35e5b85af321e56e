ALTER TABLE revision DROP COLUMN epoch;
