//! All integration tests in one binary: real HTTP against the route table of the server, each on its own SQLite file
//! or, with `TEST_DATABASE_URL=postgres://...`, on its own schema of that PostgreSQL. Some tests run other programs if
//! these are installed: see [`programs`].
#![allow(non_snake_case, reason = "a test is named `feature__condition`")]
#![allow(unreachable_pub, reason = "the harness is public to its sibling modules only")]

mod accounts;
mod algorithms;
mod attacks;
mod audit;
mod binary;
mod clocks;
mod commit_outcome;
mod concurrency;
mod configuration;
mod cors;
mod crash;
mod custom_routes;
mod databases;
mod deferred_deletion;
mod directory_sync;
mod documents;
mod domains;
mod etag;
mod examples;
mod fair_shares;
mod forgery;
mod harness;
mod http;
mod identity;
mod import;
mod keys;
mod layers;
mod limits;
mod log_recorder;
mod matrix;
mod message_texts;
mod nodes;
mod oauth;
mod openapi;
mod openapi_strictness;
mod operations;
mod posts;
mod programs;
mod proxy;
mod random;
mod readme_walk;
mod reasons;
mod revoked_mid_request;
mod schema;
mod secrets;
mod smoke;
mod start_up;
mod surface;
mod tenancy;
mod theft;
mod token;
mod unit;
mod usage;
mod usernames;
mod verification;
mod versions;
mod wire;
mod write_duration;
