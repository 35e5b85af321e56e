-- The usage of a deleted domain is removed afterwards, so it has no foreign key. SQLite cannot drop one.
CREATE TABLE new_usage (
    domain_id TEXT NOT NULL,
    day BIGINT NOT NULL,
    kind TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (domain_id, day, kind)
);
INSERT INTO new_usage SELECT domain_id, day, kind, count FROM usage;
DROP TABLE usage;
ALTER TABLE new_usage RENAME TO usage;
CREATE INDEX usage_day ON usage (day);

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
