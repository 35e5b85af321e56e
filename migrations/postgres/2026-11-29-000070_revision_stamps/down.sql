DROP TRIGGER revision_moved ON revision;
DROP FUNCTION stamp_counter();
DROP TABLE revision_stamps;
