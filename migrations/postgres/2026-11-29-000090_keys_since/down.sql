ALTER TABLE domains DROP COLUMN jwks_since;
