//! One binary for all integration tests: real HTTP against the route table that the server runs, on a real SQLite
//! file each, or, with `TEST_DATABASE_URL=postgres://...`, on a schema each of that PostgreSQL.

mod harness;
mod smoke;
