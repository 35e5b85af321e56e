//! One binary for all integration tests: real HTTP against the route table that the server runs, on a real SQLite
//! file each, or, with `TEST_DATABASE_URL=postgres://...`, on a schema each of that PostgreSQL.
#![allow(unreachable_pub, reason = "the harness is public to its sibling modules only")]

mod accounts;
mod algorithms;
mod attacks;
mod audit;
mod binary;
mod clocks;
mod committed;
mod concurrency;
mod cors;
mod crash;
mod difference;
mod documents;
mod domains;
mod etag;
mod forgery;
mod harness;
mod http;
mod identity;
mod keys;
mod late;
mod layers;
mod limits;
mod matrix;
mod moving;
mod nodes;
mod oauth;
mod openapi;
mod operations;
mod posts;
mod proof;
mod proxy;
mod removal;
mod schema;
mod secrets;
mod shares;
mod smoke;
mod start_up;
mod strictness;
mod tenancy;
mod token;
mod usage;
mod versions;
mod wire;
mod writes;
