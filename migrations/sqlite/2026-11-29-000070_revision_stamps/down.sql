DROP TRIGGER revision_moved;
DROP TABLE revision_stamps;
