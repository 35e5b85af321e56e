-- The last row of the audit log that stands in an archive file only; 0 before the first one. The chain of the rows that are
-- left follows its hash.
CREATE TABLE audit_archive (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL,
    hash BLOB NOT NULL
);
INSERT INTO audit_archive (id, last, hash) VALUES (1, 0, x'');
