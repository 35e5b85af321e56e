DROP INDEX users_hash_cost;
ALTER TABLE secrets DROP COLUMN created_from;
ALTER TABLE secrets DROP COLUMN created_by;
DROP TABLE known_networks;
