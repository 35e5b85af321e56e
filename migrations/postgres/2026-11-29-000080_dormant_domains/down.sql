DROP INDEX domains_activity;
ALTER TABLE secrets DROP COLUMN dormant;
ALTER TABLE domains DROP COLUMN active_at;
ALTER TABLE domains DROP COLUMN dormant;
