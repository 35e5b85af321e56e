-- Networks from which users signed in, and when they last did (Unix seconds). Wrong passwords from elsewhere do not keep the
-- owner out there.
CREATE TABLE known_networks (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, network)
);
CREATE INDEX known_networks_seen_at ON known_networks (seen_at);

-- Who made a secret, and from which network address.
ALTER TABLE secrets ADD COLUMN created_by TEXT;
ALTER TABLE secrets ADD COLUMN created_from TEXT;

-- The bcrypt cost of each password's hash: a refused sign-in takes as long as the dearest one.
CREATE INDEX users_hash_cost ON users (substr(replace(password_hash, 'gb1', ''), 5, 2)) WHERE NOT ended;
