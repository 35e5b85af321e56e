DROP TRIGGER domains_inserted;
CREATE TRIGGER domains_inserted AFTER INSERT ON domains WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
ALTER TABLE domains DROP COLUMN number;
