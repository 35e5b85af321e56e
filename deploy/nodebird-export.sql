-- Users and domains of the NodeBird API as JSON Lines, for `gatebird import nodebird`. MySQL 8 and MariaDB 10.5 or newer.
-- One statement reads one moment of the database. What was deleted there comes without its password or secret, and only so
-- that the import can say so; the last row counts the others, so that a file that was cut off is not taken for a whole one.
SELECT JSON_OBJECT(
    'table', 'users',
    'id', id,
    'email', CONVERT(email USING utf8mb4),
    'nick', CONVERT(nick USING utf8mb4),
    'password', IF(deletedAt IS NULL, CONVERT(password USING utf8mb4), NULL),
    'provider', CONVERT(provider USING utf8mb4),
    'snsId', CONVERT(snsId USING utf8mb4),
    'createdAt', TIMESTAMPDIFF(SECOND, '1970-01-01', createdAt),
    'deletedAt', TIMESTAMPDIFF(SECOND, '1970-01-01', deletedAt)
) FROM users
UNION ALL
SELECT JSON_OBJECT(
    'table', 'domains',
    'id', id,
    'host', CONVERT(host USING utf8mb4),
    'type', CONVERT(type USING utf8mb4),
    'clientSecret', IF(deletedAt IS NULL, CONVERT(clientSecret USING utf8mb4), NULL),
    'userId', UserId,
    'createdAt', TIMESTAMPDIFF(SECOND, '1970-01-01', createdAt),
    'deletedAt', TIMESTAMPDIFF(SECOND, '1970-01-01', deletedAt)
) FROM domains
UNION ALL
SELECT JSON_OBJECT(
    'table', 'end',
    'users', (SELECT COUNT(*) FROM users),
    'domains', (SELECT COUNT(*) FROM domains)
);
