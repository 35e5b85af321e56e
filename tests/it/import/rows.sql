-- Users and domains of each kind. The password is 1234.
INSERT INTO users (id, email, nick, password, provider, snsId, createdAt, updatedAt, deletedAt) VALUES
(1, 'Alice@example.com', 'a"b\\c''😀 제로초', '$2b$04$abcdefghijklmnopqrstuuLmbu5vDTuG9XSinpEFXpa/UakZY.oz6', 'local', NULL, '2019-03-01 12:00:00', NOW(), NULL),
(2, NULL, 'kakao\nnick', '$2b$04$abcdefghijklmnopqrstuuLmbu5vDTuG9XSinpEFXpa/UakZY.oz6', 'kakao', '1234567', '2020-01-01 00:00:00', NOW(), NULL),
(3, 'gone@example.com', 'gone', '$2b$04$abcdefghijklmnopqrstuuLmbu5vDTuG9XSinpEFXpa/UakZY.oz6', 'local', NULL, '2020-01-01 00:00:00', NOW(), '2021-01-01 00:00:00'),
(4, '한글@example.com', ' ', '$2b$04$abcdefghijklmnopqrstuuLmbu5vDTuG9XSinpEFXpa/UakZY.oz6', 'local', NULL, '2020-01-01 00:00:00', NOW(), NULL),
(5, 'taken@example.com', 'taken', '$2b$04$abcdefghijklmnopqrstuuLmbu5vDTuG9XSinpEFXpa/UakZY.oz6', 'local', NULL, '2020-01-01 00:00:00', NOW(), NULL),
(6, 'plain@example.com', 'plain', 'not a hash', 'local', NULL, '2020-01-01 00:00:00', NOW(), NULL);
INSERT INTO domains (id, host, type, clientSecret, createdAt, updatedAt, deletedAt, UserId) VALUES
(1, 'shop.example.com', 'premium', '00000001-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 1),
(2, 'http://blog.example.com/', 'free', '00000002-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 1),
(3, 'shop.example.com', 'free', '00000003-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 1),
(4, 'kakao.example.com:8443', 'free', '00000004-0000-4000-8000-0123456789AB', '2019-03-02 00:00:00', NOW(), NULL, 2),
(5, 'gone.example.com', 'free', '00000005-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 3),
(6, 'localhost:4000', 'free', '00000006-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 1),
(7, 'old.example.com', 'free', '00000007-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), '2021-01-01 00:00:00', 1),
(8, 'nobody.example.com', 'free', '00000008-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, NULL),
(9, 'taken.example.com', 'free', '00000009-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 5),
(10, 'twice.example.com', 'free', '00000001-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 4),
(11, 'odd.example.com', 'free', 'not a uuid', '2019-03-02 00:00:00', NOW(), NULL, 1),
(12, 'hangul.example.com', 'free', '0000000a-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 4),
(13, 'a "quoted" \\ host', 'free', '0000000b-0000-4000-8000-0123456789ab', '2019-03-02 00:00:00', NOW(), NULL, 1);
INSERT INTO posts (id, content, createdAt, updatedAt, UserId) VALUES (1, '#노드', NOW(), NOW(), 1);
INSERT INTO hashtags (id, title, createdAt, updatedAt) VALUES (1, '노드', NOW(), NOW());
INSERT INTO PostHashtag VALUES (NOW(), NOW(), 1, 1);
