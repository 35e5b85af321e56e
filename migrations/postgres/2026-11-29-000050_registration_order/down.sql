DROP TRIGGER domains_numbered ON domains;
DROP FUNCTION number_domain;
ALTER TABLE domains DROP COLUMN number;
