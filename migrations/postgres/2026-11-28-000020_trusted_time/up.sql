-- The time (Unix seconds) that the nodes agree has passed, as it was within the last two minutes of their work. A wall clock
-- that disagrees with it deletes nothing. 0 until the first start.
CREATE TABLE trusted_time (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    at BIGINT NOT NULL
);
INSERT INTO trusted_time (id, at) VALUES (1, 0);
