-- The usage of a deleted domain is removed afterwards.
ALTER TABLE usage DROP CONSTRAINT usage_domain_id_fkey;

-- Deleted domains whose usage is not yet removed.
CREATE TABLE deleted_domains (
    domain_id TEXT NOT NULL PRIMARY KEY
);

-- Proven hosts some of whose other registrations are not yet superseded.
CREATE TABLE oustings (
    host TEXT NOT NULL PRIMARY KEY
);
DROP INDEX domains_host;
CREATE INDEX domains_host ON domains (host, ousted);
