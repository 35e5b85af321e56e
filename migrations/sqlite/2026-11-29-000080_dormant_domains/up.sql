-- A domain that is neither verified nor used for 90 days is dormant, and so are its secrets: no node keeps them in memory.
-- `active_at` is the Unix time of the last activity as far as it was noted; NULL after a registration or a change.
ALTER TABLE domains ADD COLUMN dormant BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE domains ADD COLUMN active_at BIGINT;
ALTER TABLE secrets ADD COLUMN dormant BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX domains_activity ON domains (dormant, active_at) WHERE proven_at IS NULL;
