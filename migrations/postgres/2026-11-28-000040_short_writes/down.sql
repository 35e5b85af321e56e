DROP INDEX domains_host;
CREATE INDEX domains_host ON domains (host);
DROP TABLE oustings;
DROP TABLE deleted_domains;
DELETE FROM usage WHERE domain_id NOT IN (SELECT id FROM domains);
ALTER TABLE usage ADD FOREIGN KEY (domain_id) REFERENCES domains (id) ON DELETE CASCADE;
