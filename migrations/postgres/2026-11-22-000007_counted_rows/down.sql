DROP TRIGGER users_inserted ON users;
DROP TRIGGER users_changed ON users;
CREATE TRIGGER users_changed BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp_revision();
DROP TRIGGER domains_inserted ON domains;
DROP TRIGGER domains_changed ON domains;
CREATE TRIGGER domains_changed BEFORE INSERT OR UPDATE ON domains FOR EACH ROW EXECUTE FUNCTION stamp_revision();
DROP TRIGGER secrets_inserted ON secrets;
DROP TRIGGER secrets_changed ON secrets;
CREATE TRIGGER secrets_changed BEFORE INSERT OR UPDATE ON secrets FOR EACH ROW EXECUTE FUNCTION stamp_revision();
