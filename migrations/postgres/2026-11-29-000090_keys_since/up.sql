-- When the public keys of a domain were set (Unix seconds): after a theft, those that the thief set must end.
ALTER TABLE domains ADD COLUMN jwks_since BIGINT;
UPDATE domains SET jwks_since = created_at WHERE jwks IS NOT NULL;
