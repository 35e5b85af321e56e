-- The row of a deleted account stays for ever. It reserves the account's number and, by `username_key`, a hash of its name.
ALTER TABLE users ADD COLUMN ended BOOLEAN NOT NULL DEFAULT FALSE;

-- Deleted accounts whose data is not yet removed; `ended_at` in Unix seconds. No foreign key: the users' rows stay.
CREATE TABLE removals (
    user_id BIGINT NOT NULL PRIMARY KEY,
    ended_at BIGINT NOT NULL
);
