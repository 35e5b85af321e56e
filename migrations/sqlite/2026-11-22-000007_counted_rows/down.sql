DROP TRIGGER users_inserted;
CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE users SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
DROP TRIGGER domains_inserted;
CREATE TRIGGER domains_inserted AFTER INSERT ON domains BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE domains SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
DROP TRIGGER secrets_inserted;
CREATE TRIGGER secrets_inserted AFTER INSERT ON secrets BEGIN
    UPDATE revision SET value = value + 1;
    UPDATE secrets SET revision = (SELECT value FROM revision) WHERE id = NEW.id;
END;
