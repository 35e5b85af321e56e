-- What happens in the NodeBird API between two exports.
INSERT INTO users (email, nick, password, createdAt, updatedAt) VALUES
('new@example.com', 'new', '$2b$04$abcdefghijklmnopqrstuuLmbu5vDTuG9XSinpEFXpa/UakZY.oz6', '2022-01-01 00:00:00', NOW());
INSERT INTO domains (host, type, clientSecret, createdAt, updatedAt, UserId) VALUES
('new.example.com', 'free', '00000014-0000-4000-8000-0123456789ab', '2022-01-01 00:00:00', NOW(), 7),
('more.example.com', 'free', '00000015-0000-4000-8000-0123456789ab', '2022-01-01 00:00:00', NOW(), 1);
UPDATE domains SET deletedAt = '2022-01-01 00:00:00' WHERE id = 1;
