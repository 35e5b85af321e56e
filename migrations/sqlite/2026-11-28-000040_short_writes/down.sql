DROP INDEX domains_host;
CREATE INDEX domains_host ON domains (host);
DROP TABLE oustings;
DROP TABLE deleted_domains;
CREATE TABLE new_usage (
    domain_id TEXT NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    day BIGINT NOT NULL,
    kind TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (domain_id, day, kind)
);
INSERT INTO new_usage SELECT domain_id, day, kind, count FROM usage WHERE domain_id IN (SELECT id FROM domains);
DROP TABLE usage;
ALTER TABLE new_usage RENAME TO usage;
CREATE INDEX usage_day ON usage (day);
