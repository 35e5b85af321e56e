DROP TABLE post_hashtags;
DROP TABLE posts;
DROP TABLE tombstones;
DROP TABLE secrets;
DROP TABLE domains;
DROP TABLE users;
DROP TABLE revision;
