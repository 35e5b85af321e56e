-- A row that is inserted with a revision has been counted already: an import takes many revisions from the counter at once.
-- PostgreSQL keeps every version of the counter's row until the commit and passes by all of them to find the last one.
DROP TRIGGER users_changed ON users;
CREATE TRIGGER users_inserted BEFORE INSERT ON users FOR EACH ROW WHEN (NEW.revision = 0)
    EXECUTE FUNCTION stamp_revision();
CREATE TRIGGER users_changed BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp_revision();
DROP TRIGGER domains_changed ON domains;
CREATE TRIGGER domains_inserted BEFORE INSERT ON domains FOR EACH ROW WHEN (NEW.revision = 0)
    EXECUTE FUNCTION stamp_revision();
CREATE TRIGGER domains_changed BEFORE UPDATE ON domains FOR EACH ROW EXECUTE FUNCTION stamp_revision();
DROP TRIGGER secrets_changed ON secrets;
CREATE TRIGGER secrets_inserted BEFORE INSERT ON secrets FOR EACH ROW WHEN (NEW.revision = 0)
    EXECUTE FUNCTION stamp_revision();
CREATE TRIGGER secrets_changed BEFORE UPDATE ON secrets FOR EACH ROW EXECUTE FUNCTION stamp_revision();
