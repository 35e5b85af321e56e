-- Client assertions that were used on one node, so that no other takes them again. A row is of no use after its assertion's
-- `exp`, and every node knows that by itself: so its deletion leaves no tombstone. The tenant is no foreign key: a row may
-- be written after its tenant has gone.
CREATE TABLE used_assertions (
    fingerprint BYTEA NOT NULL PRIMARY KEY,
    tenant BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX used_assertions_revision ON used_assertions (revision);
CREATE INDEX used_assertions_expires_at ON used_assertions (expires_at);

CREATE TRIGGER used_assertions_inserted BEFORE INSERT ON used_assertions
    FOR EACH ROW EXECUTE FUNCTION stamp_revision();
