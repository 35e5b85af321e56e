-- The order of registration: the revision at which a domain was registered. Its time does not order two of one second.
DROP TRIGGER domains_updated;
ALTER TABLE domains ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
UPDATE domains SET number = ordered.number
    FROM (SELECT id, row_number() OVER (ORDER BY created_at, id) AS number FROM domains) ordered
    WHERE domains.id = ordered.id;
CREATE TRIGGER domains_updated AFTER UPDATE ON domains WHEN NEW.revision = OLD.revision BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;

DROP TRIGGER domains_inserted;
CREATE TRIGGER domains_inserted AFTER INSERT ON domains WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET (revision, number) = (SELECT value, value FROM revision) WHERE id = NEW.id;
END;
