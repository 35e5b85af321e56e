-- A row that is inserted with a revision has been counted already: an import takes many revisions from the counter at once.
DROP TRIGGER users_inserted;
CREATE TRIGGER users_inserted AFTER INSERT ON users WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE users SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
DROP TRIGGER domains_inserted;
CREATE TRIGGER domains_inserted AFTER INSERT ON domains WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
DROP TRIGGER secrets_inserted;
CREATE TRIGGER secrets_inserted AFTER INSERT ON secrets WHEN NEW.revision = 0 BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE secrets SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
