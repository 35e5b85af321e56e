DROP TABLE trusted_time;
