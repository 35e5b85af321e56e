-- The order of registration: the revision at which a domain was registered. Its time does not order two of one second.
ALTER TABLE domains ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
-- This changes nothing that the directory shows.
ALTER TABLE domains DISABLE TRIGGER domains_changed;
UPDATE domains SET number = ordered.number
    FROM (SELECT id, row_number() OVER (ORDER BY created_at, id) AS number FROM domains) ordered
    WHERE domains.id = ordered.id;
ALTER TABLE domains ENABLE TRIGGER domains_changed;

CREATE FUNCTION number_domain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.number := NEW.revision;
    RETURN NEW;
END $$;
-- PostgreSQL runs triggers in the order of their names, so `domains_inserted` has set the revision.
CREATE TRIGGER domains_numbered BEFORE INSERT ON domains FOR EACH ROW EXECUTE FUNCTION number_domain();
