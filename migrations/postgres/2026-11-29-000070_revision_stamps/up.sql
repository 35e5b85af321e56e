-- A random stamp for each of the last values of the counter. A failover can lose revisions, and later changes take the same
-- numbers: a node that has seen a lost revision notices its other stamp.
CREATE TABLE revision_stamps (
    revision BIGINT NOT NULL PRIMARY KEY,
    stamp BIGINT NOT NULL
);
INSERT INTO revision_stamps (revision, stamp) SELECT value, floor(random() * 9e15)::BIGINT FROM revision;
CREATE FUNCTION stamp_counter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM revision_stamps WHERE revision >= NEW.value;
    INSERT INTO revision_stamps (revision, stamp) VALUES (NEW.value, floor(random() * 9e15)::BIGINT);
    RETURN NULL;
END $$;
CREATE TRIGGER revision_moved AFTER UPDATE OF value ON revision FOR EACH ROW EXECUTE FUNCTION stamp_counter();
